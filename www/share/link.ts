/**
 * A result in the fragment of an address, which browsers keep to themselves: `#result=1.<letters>`. The letters
 * are a header in JSON and the lower half of the similarity matrix in 16 bits a value, packed.
 *
 *     header length (u32) | header | high bytes | low bytes      values: row after row, each up to its diagonal
 *     value = least + q (most - least) / 65535, q minus that of the row above: neighbouring layers differ little
 *
 * Half a step is the most that a similarity is off: 7.6e-6 for a range of 0 to 1.
 */
import { Failure } from '../engine/errors'
import type { SharedCosts } from '../charts/costs'
import type { Comparison } from '../charts/speed'
import type { MergePlan, MergeStep, PlanReport } from '../engine/protocol/plan'
import type { Quality } from '../engine/protocol/quality'
import type { SimilarityReport } from '../engine/protocol/similarity'
import { plural, whole } from '../ui/format'
import { methodOf } from '../words/methods'
import { packed, unpacked } from './packed'
import { leastOf } from './checks/similarities'
import { NO_MAPS, ofDocument, resultJson, type Result } from './result'

const VERSION = 1
const STEPS = 65_535
/** A link of 128 layers and as many merges is shorter; a longer one is for a file. */
export const LONGEST = 32_000
/** What is read, whoever made it. */
const LONGEST_READ = 200_000

export function isResultLink(address: string): boolean {
  return /#result=/.test(address)
}

/** The fragment, with its `#`; refused where it would be too long to travel. A comparison goes along where there is room for it. */
export async function linkOf(result: Result): Promise<string> {
  if (!result.maps) throw new Failure('usage', 'Compare the layers first; a link carries their similarities.')
  const { maps } = result
  const whole = result.comparison && (await withMaps(result, maps))
  return whole && whole.length <= LONGEST ? whole : withMaps({ ...result, comparison: null }, maps, true)
}

async function withMaps(result: Result, { similarity, ...maps }: SimilarityReport, refuses = false): Promise<string> {
  const n = similarity.length
  const named = result.options && methodOf(result.methods, result.options)
  const compared = new Set(result.comparison?.rows.map(row => row.method))
  const methods = result.methods.filter(method => method === named || compared.has(method.name))
  const header = new TextEncoder().encode(
    JSON.stringify({
      ...resultJson({
        ...result,
        comparison: result.comparison && comparisonHeader(result.comparison),
        costs: result.costs && costsHeader(result.costs),
        methods,
        created: '',
      }),
      similarity: mapsHeader(maps),
      plan: result.plan && planHeader(result.plan),
    }),
  )
  const values = quantised(similarity, leastOf(maps.metric), 1)
  const bytes = new Uint8Array(4 + header.length + 2 * values.length)
  new DataView(bytes.buffer).setUint32(0, header.length, true)
  bytes.set(header, 4)
  values.forEach((value, i) => {
    bytes[4 + header.length + i] = value >> 8
    bytes[4 + header.length + values.length + i] = value & 255
  })
  const link = `#result=${VERSION}.${await packed(bytes)}`
  if (refuses && link.length > LONGEST)
    throw new Failure(
      'limit',
      `The link of these ${plural(n, 'layer')} would be ${whole(link.length)} characters long, and more than ${whole(LONGEST)} do not travel well. Save the report instead.`,
    )
  return link
}

/** From an address or a fragment. */
export async function readLink(address: string): Promise<Result> {
  const [, version, letters] = /#result=(\d+)\.(.*)$/s.exec(address.trim()) ?? []
  if (address.length > LONGEST_READ)
    throw new Failure(
      'limit',
      `The link is ${whole(address.length)} characters long, and at most ${whole(LONGEST_READ)} are read. Ask for the report as a file.`,
    )
  if (version === undefined || letters === undefined)
    throw new Failure(
      'format',
      'The link is damaged: it does not say what it holds. Copy it again, or ask for the report as a file.',
    )
  if (Number(version) > VERSION)
    throw new Failure(
      'unsupported',
      `The link was made by a newer Laminate (its form is ${version}, and this page reads up to ${VERSION}). Reload this page, or ask for the report as a file.`,
    )
  const bytes = await unpacked(letters)
  const size = bytes.length < 4 ? Infinity : new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true)
  const damaged = new Failure(
    'format',
    'The link is damaged: what it holds is not a result. Copy it again, or ask for the report as a file.',
  )
  if (4 + size > bytes.length) throw damaged
  const header = parsed(bytes.subarray(4, 4 + size))
  const maps = header?.similarity
  if (!header || !maps || !Number.isInteger(maps.layers)) throw damaged
  const [n, least] = [maps.layers, leastOf(maps.metric)]
  const coded = bytes.subarray(4 + size)
  if (coded.length !== n * (n + 1)) throw damaged
  const similarity = restored(coded, n, least, 1)
  const plan = header.plan && planFrom(header.plan)
  const result = ofDocument({ ...header, similarity: { ...maps, similarity }, plan }, 'The link')
  return {
    ...result,
    notes: [
      ...result.notes.filter(note => note !== NO_MAPS),
      `A link carries the similarities to within ${tolerance(least, 1).toFixed(6)}, and ${result.comparison ? 'not the maps; a report has them' : 'neither the maps nor a comparison of methods; a report has them'}.`,
    ],
  }
}

/** The most that a value is off. */
export function tolerance(least: number, most: number): number {
  return (most - least) / STEPS / 2
}

interface Header {
  similarity: SimilarityReport
  plan: ReturnType<typeof planHeader> | null
}

function parsed(bytes: Uint8Array): Header | null {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as Header
  } catch {
    return null
  }
}

/** The lower half with the diagonal, each value as its difference to the one above it, modulo 2^16. */
function quantised(matrix: readonly (readonly number[])[], least: number, most: number): Uint16Array {
  const q = (value: number) => Math.round(((Math.min(most, Math.max(least, value)) - least) / (most - least)) * STEPS)
  return Uint16Array.from(
    matrix.flatMap((row, l) => row.slice(0, l + 1).map((value, m) => q(value) - (m < l ? q(matrix[l - 1]![m]!) : 0))),
  )
}

function restored(coded: Uint8Array, n: number, least: number, most: number): number[][] {
  const half = coded.length / 2
  const rows: number[][] = []
  for (let l = 0, i = 0; l < n; l++) {
    rows.push(
      Array.from(
        { length: l + 1 },
        (_, m) => ((coded[i]! << 8) + coded[half + i++]! + (m < l ? rows[l - 1]![m]! : 0)) & 0xffff,
      ),
    )
  }
  const value = (code: number) => least + (code / STEPS) * (most - least)
  return rows.map((_, l) => rows.map((_, m) => value(rows[Math.max(l, m)]![Math.min(l, m)]!)))
}

/** Everything but what is large or names files of a computer. */
function mapsHeader(maps: Omit<SimilarityReport, 'similarity'>) {
  return {
    ...maps,
    model: { ...maps.model, files: [] },
    point_list: [],
    eigenvalues: [],
    mutual_information: [],
    embedding: [],
    epsilon: [],
    block_influence: maps.block_influence.map(value => figures(value, 4)),
    perplexity: figures(maps.perplexity, 7),
    seconds: figures(maps.seconds, 3),
  }
}

/** Numbers to four figures. Which layers became one is in a report, and the page finds the verdicts again. */
function comparisonHeader(report: Comparison): Comparison {
  const short = (q: Quality): Quality => ({
    ...q,
    perplexity: figures(q.perplexity, 4),
    kl: figures(q.kl, 4),
    top1_agreement: figures(q.top1_agreement, 4),
  })
  const each = <T extends { kl_by_sequence?: number[]; seconds: number }>(of: T): T => ({
    ...of,
    seconds: figures(of.seconds, 2),
    ...(of.kl_by_sequence && { kl_by_sequence: of.kl_by_sequence.map(kl => figures(kl, 4)) }),
  })
  return {
    ...report,
    model: { ...report.model, files: [] },
    verdicts: undefined,
    seconds: figures(report.seconds, 3),
    original: short(report.original),
    ...(report.originals && {
      originals: report.originals.map(original => ({ ...each(original), quality: short(original.quality) })),
    }),
    ...(report.speeds && {
      speeds: {
        ...report.speeds,
        models: report.speeds.models.map(of => ({
          ...of,
          prompt: figures(of.prompt, 4),
          generation: figures(of.generation, 4),
          noise: figures(of.noise, 2),
        })),
      },
    }),
    rows: report.rows.map(row => ({ ...each(row), groups: [], quality: row.quality && short(row.quality) })),
  }
}

/** Measures to four figures. */
function costsHeader(costs: SharedCosts): SharedCosts {
  return {
    ...costs,
    measured: costs.measured.map(cost => ({
      ...cost,
      perplexity: figures(cost.perplexity, 4),
      kl: figures(cost.kl, 4),
      agreement: figures(cost.agreement, 4),
    })),
  }
}

/** Steps column by column; what follows from the merges is left out. */
function planHeader(report: PlanReport) {
  const { steps, weights, groups, ...plan } = report.plan
  const follow = JSON.stringify(weightsOf(report.plan)) === JSON.stringify(weights.map(each => each.map(rounded)))
  const column = <K extends keyof MergeStep>(key: K, digits: number) =>
    steps.map(step => figures(step[key] as number | null, digits))
  return {
    ...report,
    // Whoever writes the result opens the model first, and is told the sizes then.
    sizes: undefined,
    plan: {
      ...plan,
      sizes: groups.map(group => group.length),
      weights: follow ? null : weights.map(each => each.map(weight => figures(weight, 9))),
      merged: steps.map(step => step.merged[0]),
      alpha: column('alpha', 9),
      similarity: column('similarity', 5),
      perplexity: column('perplexity', 5),
      kl: column('kl', 4),
      top1_agreement: column('top1_agreement', 4),
      bytes: steps.map(step => step.bytes),
      collapsed: steps.map(step => Number(step.collapsed)),
      dropped: steps.map(
        ({ dropped: q }) =>
          q &&
          ([figures(q.perplexity, 4), figures(q.kl, 3), figures(q.top1_agreement, 3), Number(q.collapsed)] as const),
      ),
    },
  }
}

/** The plan with its steps and groups; what cannot be one is left to the check of plans. */
function planFrom(report: ReturnType<typeof planHeader>): unknown {
  const {
    sizes = [],
    merged = [],
    alpha,
    similarity,
    perplexity,
    kl,
    top1_agreement,
    bytes,
    collapsed,
    dropped,
    weights,
    ...plan
  } = report.plan
  let layer = 0
  const now = Array.from({ length: Math.min(plan.n_layers, STEPS) }, (_, l) => [l])
  const steps = merged.map((l, i): MergeStep => {
    const [a = [], b = []] = [now[l], now[l + 1]]
    now.splice(l, 2, [...a, ...b])
    const q = dropped[i]
    return {
      merged: [l, l + 1],
      groups: [a, b],
      alpha: alpha[i] as number,
      similarity: similarity[i] as number,
      layers: now.length,
      perplexity: perplexity[i] ?? null,
      kl: kl[i] ?? null,
      top1_agreement: top1_agreement[i] ?? null,
      bytes: bytes[i] ?? null,
      collapsed: collapsed[i] === 1,
      dropped: q ? { perplexity: q[0] as number, kl: q[1], top1_agreement: q[2], collapsed: q[3] === 1 } : null,
    }
  })
  const groups = sizes.map(size => Array.from({ length: Math.min(size, STEPS) }, () => layer++))
  return {
    ...report,
    plan: { ...plan, steps, groups, weights: weights ?? weightsOf({ ...plan, steps }) } satisfies MergePlan,
  }
}

/** Those that the shares of the steps lead to, to nine decimals. */
function weightsOf({ n_layers, steps }: Pick<MergePlan, 'n_layers' | 'steps'>): number[][] {
  const now = Array.from({ length: Math.min(n_layers, STEPS) }, () => [1])
  for (const {
    merged: [l],
    alpha,
  } of steps)
    now.splice(l, 2, [...(now[l] ?? []).map(w => w * alpha), ...(now[l + 1] ?? []).map(w => w * (1 - alpha))])
  return now.map(weights => weights.map(rounded))
}

function rounded(value: number): number {
  return Number(value.toFixed(9))
}

function figures<T extends number | null>(value: T, digits: number): T {
  return (typeof value === 'number' && Number.isFinite(value) ? Number(value.toPrecision(digits)) : value) as T
}

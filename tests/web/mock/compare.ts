import type { CompareOptions, CompareReport, CompareRow, StoredOriginal } from '../../../www/engine/protocol/compare'
import type { DeviceReport } from '../../../www/engine/protocol/device'
import type { Observe } from '../../../www/engine/protocol/engine'
import type { NamedMethod } from '../../../www/engine/protocol/method'
import type { NumberType } from '../../../www/engine/protocol/output'
import type { Quality } from '../../../www/engine/protocol/quality'
import type { SimilarityReport } from '../../../www/engine/protocol/similarity'
import type { TextOptions, TextReport } from '../../../www/engine/protocol/text'
import { frontChoices } from '../../../www/charts/comparison'
import { METHODS } from './methods'
import { cost } from './plan'
import { fail, wait } from './tell'

/** How much worse than the best each selection and each operator is made out to be. */
const SELECTION: Record<string, number> = {
  mka: 1.2,
  redundancy: 1.1,
  bi: 1.4,
  angular: 2,
  pairs: 1.5,
  'greedy-nll': 1.05,
  'greedy-kl': 1,
  laco: 2.2,
  tail: 26,
  reverse: 12,
  random: 7,
}
export const OPERATOR: Record<string, number> = {
  average: 1.5,
  'match-experts': 1.4,
  drop: 1.3,
  laco: 1.4,
  scale: 1.15,
  replaceme: 0.8,
  flatten: 0.9,
  refit: 0.6,
  'pool-refit': 0.5,
}

/** Share of the bytes that a model has in its own types, and KL that rounding costs, of the types that the mock knows. */
const TYPES: Partial<Record<NumberType, [share: number, kl: number]>> = {
  f16: [1, 0],
  q8_0: [0.53, 0.0008],
  q4_k_m: [0.31, 0.02],
  q3_k_m: [0.25, 0.07],
  q2_k: [0.2, 0.4],
}

/** Perplexity of the original on a text that is kept for judging. */
export const HELD_OUT = 7.312

/** The text as it was used. */
export function reportOf({ text, text_name, samples, tokens }: TextOptions): TextReport {
  return {
    name: text === null ? 'built-in evaluation text' : (text_name ?? 'your text'),
    sequences: samples,
    tokens_per_sequence: tokens,
    tokens_scored: samples * (tokens - 1),
  }
}

/** Plausible numbers, worse with every layer; the random draw depends on its seed, and pairs run out. */
export async function compareOf(
  maps: SimilarityReport,
  options: CompareOptions,
  observe: Observe,
  device: DeviceReport,
): Promise<CompareReport> {
  const { model } = maps
  const { text } = options.evaluation
  const unknown = options.methods.find(name => !METHODS.some(method => method.name === name))
  if (unknown) fail('usage', `unknown method "${unknown}"`)
  const original: Quality = { perplexity: HELD_OUT, kl: null, top1_agreement: null, collapsed: false }
  const evaluation = reportOf(options.evaluation)
  const rows: CompareRow[] = []
  let stopped = false
  const { dtypes = ['keep'] } = options
  const models = dtypes.flatMap(dtype =>
    options.methods.flatMap(name =>
      options.remove.map(removed => [METHODS.find(m => m.name === name)!, removed, dtype] as const),
    ),
  )
  for (const [method, removed, dtype] of models) {
    const detail = `${method.title} with ${removed} removed`
    stopped = await observe({
      progress: { stage: 'plan', done: rows.length, total: models.length, unit: 'layers', detail },
    })
    if (stopped) break
    await wait(40)
    const row = inType(rowOf(maps, method, removed, original.perplexity, options.seed), dtype, evaluation.sequences)
    rows.push(row)
    stopped = await observe({ row })
    if (stopped) break
  }
  const originals = dtypes
    .filter(dtype => dtype !== 'keep')
    .map((dtype): StoredOriginal => {
      const [share, kl] = TYPES[dtype] ?? [0.5, 0.01]
      return {
        dtype,
        quality: { perplexity: HELD_OUT * Math.exp(kl), kl, top1_agreement: Math.exp(-2 * kl), collapsed: false },
        kl_by_sequence: spread(kl, evaluation.sequences),
        bytes: Math.round(share * model.bytes),
        seconds: 0.04,
      }
    })
  const report: CompareReport = {
    output: { dtype: 'keep', max_shard_bytes: 5e9, container: 'safetensors', ...options.output },
    ...(originals.length > 0 ? { originals } : {}),
    model,
    calibration: maps.text,
    evaluation,
    overlap: text?.startsWith('overlap') ? 0.124 : 0,
    original,
    parameters: model.parameters,
    bytes: model.bytes,
    seed: options.seed,
    rows,
    cancelled: stopped,
    warnings: [],
    device,
    seconds: 0.04 * rows.length,
    peak_memory_bytes: 45_200_000,
  }
  return originals.length > 0
    ? { ...report, verdicts: frontChoices(report).map(choice => ({ ...choice, sentence: 'A verdict.' })) }
    : report
}

/** The same model with fewer bits: smaller, and further from the original. */
function inType(row: CompareRow, dtype: NumberType, sequences: number): CompareRow {
  const [share, lost] = dtype === 'keep' ? [1, 0] : (TYPES[dtype] ?? [0.5, 0.01])
  const kl = row.quality?.kl ?? null
  if (!row.quality || kl === null) return { ...row, dtype, kl_by_sequence: [] }
  const quality = { ...row.quality, kl: kl + lost, perplexity: row.quality.perplexity * Math.exp(lost) }
  return { ...row, dtype, quality, kl_by_sequence: spread(kl + lost, sequences), bytes: Math.round(share * row.bytes) }
}

/** Sequences differ by a tenth, and as much for every model. */
function spread(kl: number, sequences: number): number[] {
  return Array.from({ length: sequences }, (_, i) => kl * (1 + 0.1 * Math.sin(i)))
}

function rowOf(
  { model }: SimilarityReport,
  method: NamedMethod,
  removed: number,
  original: number,
  seed: number,
): CompareRow {
  const { name, selection, operator } = method
  const layers = model.layers - removed
  const failed = selection === 'pairs' && removed > model.layers / 3
  const lot = selection === 'random' ? 1 + (seed % 7) / 3 : 1
  const strain = SELECTION[selection]! * OPERATOR[operator]! * lot * (removed / model.layers) ** 1.6
  const perplexity = original * Math.exp(strain * 0.9)
  return {
    method: name,
    selection,
    operator,
    removed,
    layers,
    groups: [
      ...Array.from({ length: layers - 1 }, (_, l) => [l]),
      Array.from({ length: removed + 1 }, (_, l) => layers - 1 + l),
    ],
    quality: failed ? null : { perplexity, ...cost(perplexity, original) },
    parameters: model.parameters - removed * model.parameters_per_layer,
    bytes: model.bytes - removed * model.bytes_per_layer,
    seconds: 0.04,
    error: failed
      ? `${removed} disjoint pairs do not fit into ${model.layers} layers without the first; ask for ${Math.floor(model.layers / 3)} or fewer`
      : null,
    warnings: operator === 'scale' ? ['the embedding is shared with the head, so it was left as it is'] : [],
  }
}

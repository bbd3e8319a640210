import type { CompareRow } from '../engine/protocol/compare'
import { measuredWords, speedOf, type Comparison, type ModelSpeed } from './speed'
import type { NumberType } from '../engine/protocol/output'
import type { Quality } from '../engine/protocol/quality'
import type { TextReport } from '../engine/protocol/text'
import { bytes, group, nats, percent, perplexity, plural, rate, seconds, sentence, whole } from '../ui/format'
import { typeName } from '../words/types'
import {
  candidatesOf,
  choiceAt,
  frontOf,
  hasFewerBits,
  ORIGINAL,
  originalRows,
  summaryWords,
  verdictWords,
  type Measured,
} from './verdicts'

/** What stands under the table: texts, tokens, seed. Without a report, only that there is none. */
export function footing(report: Comparison | null): string[] {
  if (!report) return ['The comparison ended before it could say what it was measured on.']
  const text = ({ name, sequences, tokens_per_sequence }: TextReport) =>
    `${name} (${whole(sequences)} sequences of ${whole(tokens_per_sequence)} tokens)`
  return [
    `Measured on ${text(report.evaluation)}, ${whole(report.evaluation.tokens_scored)} tokens scored.`,
    `Calibrated on ${text(report.calibration)}. Seed ${report.seed}.`,
    ...importanceWords(report),
    `${report.model.name} on ${report.device.name}, ${seconds(report.seconds)}, ${bytes(report.peak_memory_bytes)} at most.`,
    ...(report.speeds ? [measuredWords(report.speeds)] : []),
  ]
}

/** By which importances quantised types were encoded; nothing where no type was, or it is not known. */
function importanceWords({ imatrix, output, originals }: Comparison): string[] {
  if (!originals?.length) return []
  return [
    imatrix
      ? `Quantised types were encoded by the importance matrix ${imatrix.name}.`
      : output?.importances === false
        ? 'Quantised types were encoded without importances.'
        : 'Quantised types were encoded by importances that were collected on the calibration text.',
  ]
}

/** Whether the numbers can be believed; empty where they can. */
export function overlapWarning(report: Comparison): string {
  if (!(report.overlap > 0)) return ''
  const share = report.overlap < 0.001 ? 'less than 0.1\u00a0%' : percent(report.overlap)
  return `The evaluation text is not new to the methods: ${share} of its tokens were seen in calibration. The numbers flatter those that fit themselves to that text.`
}

type Title = (method: string) => string
const stored = (dtype: NumberType = 'keep') => (dtype === 'keep' ? '' : ` in ${typeName(dtype)}`)
const named = ({ method, removed, dtype }: CompareRow, title: Title) =>
  `${method === ORIGINAL ? 'the original' : `${title(method)} with ${removed} removed`}${stored(dtype)}`
const distance = (kl: number | null) => (kl === null ? 'not measured' : Number.isFinite(kl) ? nats(kl) : 'not finite')

/**
 * Which method stays closest to the original, for each number of layers removed: what a newcomer wants to know first.
 * Nothing where fewer than two were measured, as they are stored.
 */
export function closestWords(rows: readonly CompareRow[], title: Title): string[] {
  const own = rows.filter(({ method, dtype = 'keep' }) => method !== ORIGINAL && dtype === 'keep')
  const counts = [...new Set(own.map(row => row.removed))].toSorted((a, b) => a - b)
  return counts.flatMap(count => {
    const measured = own
      .flatMap(({ method, removed, quality }) =>
        removed === count && quality && !quality.collapsed && quality.kl !== null && Number.isFinite(quality.kl)
          ? [{ name: title(method), kl: quality.kl }]
          : [],
      )
      .toSorted((a, b) => a.kl - b.kl)
    const [best, second, third] = measured
    if (!best || !second) return []
    const then = [second, ...(third ? [third] : [])].map(({ name, kl }) => `${name} (${nats(kl)})`)
    return [
      `With ${plural(count, 'layer')} removed ${best.name} stays closest to the original: KL ${nats(best.kl)}. Then come ${then.join(' and ')}.`,
    ]
  })
}

/** One model of the plot in words, with its speed where that was measured; empty where it could not be made. */
export function readOut(
  row: CompareRow,
  title: Title,
  original: number | null,
  speed: ModelSpeed | null = null,
): string {
  const { quality, groups } = row
  if (!quality) return ''
  const merged = groups.filter(layers => layers.length > 1)
  const fused =
    merged.length === 0
      ? ''
      : `. Layers that became one: ${merged.slice(0, 6).map(group).join(', ')}${merged.length > 6 ? ' and others' : ''}`
  const compared = original === null ? '' : ` (original ${perplexity(original)})`
  const agrees = quality.top1_agreement === null ? '' : `, agrees on ${percent(quality.top1_agreement)}`
  const runs =
    speed === null ? '' : `, reads ${rate(speed.prompt)} and writes ${rate(speed.generation)} tokens a second`
  return `${named(row, title)}${quality.collapsed ? ', collapsed' : ''}: perplexity ${perplexity(quality.perplexity)}${compared}, KL ${distance(quality.kl)} a token${agrees}, ${bytes(row.bytes)}${runs}${fused}`
}

/** The models whose marks say less than their numbers do; empty where there are none. */
export function aboveScale(rows: readonly CompareRow[], title: Title): string {
  const each = rows.flatMap(row =>
    row.quality
      ? [`${named(row, title)} (perplexity ${perplexity(row.quality.perplexity)}, KL ${distance(row.quality.kl)})`]
      : [],
  )
  return each.length > 0 ? `Above the scale: ${each.join('; ')}.` : ''
}

const COLUMNS = [
  'method',
  'selection',
  'operator',
  'removed',
  'layers',
  'parameters',
  'bytes',
  'perplexity',
  'kl',
  'top1_agreement',
  'collapsed',
  'seconds',
  'groups',
  'error',
  'evaluation',
  'tokens_scored',
  'calibration',
  'seed',
  'dtype',
  'imatrix',
  'prompt_per_second',
  'generation_per_second',
  'cache_bytes_per_1000_tokens',
] as const

/** One line a model, the original first where it is known. Every line says what it was measured on. */
export function comparisonCsv(rows: readonly CompareRow[], report: Comparison | null): string {
  const context = ({ dtype = 'keep', ...of }: Pick<CompareRow, 'method' | 'layers' | 'dtype'>) => {
    const speed = speedOf(report?.speeds, { ...of, dtype })
    return [
      ...(report
        ? [report.evaluation.name, report.evaluation.tokens_scored, report.calibration.name, report.seed]
        : [null, null, null, null]),
      dtype,
      report?.imatrix?.name,
      speed?.prompt,
      speed?.generation,
      speed?.cache,
    ]
  }
  const measured = (quality: Quality | null) => [
    quality?.perplexity,
    quality?.kl,
    quality?.top1_agreement,
    quality?.collapsed,
  ]
  const groups = (of: readonly number[][]) => of.map(layers => layers.join(' ')).join(' | ')
  const original = report
    ? [
        [
          'original',
          null,
          null,
          0,
          report.model.layers,
          report.parameters,
          report.bytes,
          ...measured(report.original),
          null,
          null,
          null,
          ...context({ method: ORIGINAL, layers: report.model.layers }),
        ],
      ]
    : []
  const lines = [...(report ? originalRows(report) : []), ...rows].map(row => [
    row.method,
    row.method === ORIGINAL ? null : row.selection,
    row.method === ORIGINAL ? null : row.operator,
    row.removed,
    row.layers,
    row.parameters,
    row.bytes,
    ...measured(row.quality),
    row.seconds,
    groups(row.groups),
    row.error,
    ...context(row),
  ])
  return [COLUMNS, ...original, ...lines].map(line => line.map(quoted).join(',')).join('\n') + '\n'
}

export function comparisonMarkdown(rows: readonly CompareRow[], report: Comparison | null, title: Title): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map(cell => cell.replaceAll('\u00a0', ' ').replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`
  const measured = ({ perplexity: p, kl, top1_agreement: top1 }: Quality) => [
    perplexity(p),
    kl === null ? '' : nats(kl),
    top1 === null ? '' : percent(top1),
  ]
  const all = [...(report ? originalRows(report) : []), ...rows]
  const typed = all.some(({ dtype = 'keep' }) => dtype !== 'keep')
  const speeds = report?.speeds
  const runs = (of: Pick<CompareRow, 'method' | 'layers' | 'dtype'>) => (speeds ? speedCells(speedOf(speeds, of)) : [])
  const head = [
    ...(typed ? ['method', 'type'] : ['method']),
    'removed',
    'size',
    'perplexity',
    'KL, a token',
    'agrees',
    ...(speeds ? ['prompt, tokens/s', 'generation, tokens/s', 'cache'] : []),
    'remark',
  ]
  const cell = (dtype: NumberType = 'keep') => (typed ? [dtype === 'keep' ? 'as it is' : typeName(dtype)] : [])
  const original = report
    ? [
        line([
          'original',
          ...cell(),
          '0',
          bytes(report.bytes),
          ...measured(report.original),
          ...runs({ method: ORIGINAL, layers: report.model.layers }),
          '',
        ]),
      ]
    : []
  const lines = all.map(row =>
    row.quality === null
      ? line([
          title(row.method),
          ...cell(row.dtype),
          String(row.removed),
          '',
          '',
          '',
          '',
          ...runs(row),
          `failed: ${sentence(row.error ?? 'no reason was given')}`,
        ])
      : line([
          title(row.method),
          ...cell(row.dtype),
          String(row.removed),
          bytes(row.bytes),
          ...measured(row.quality),
          ...runs(row),
          row.quality.collapsed ? '**collapsed**' : '',
        ]),
  )
  const warnings = report ? [overlapWarning(report), ...report.warnings.map(sentence)].filter(Boolean) : []
  const notes = [
    ...(report ? verdictLines(report, title) : []),
    ...(report?.cancelled ? ['Stopped before the end.'] : []),
    ...warnings,
    ...footing(report),
  ]
  return (
    [
      line(head),
      `${typed ? '| :-- ' : ''}| :-- | --: | --: | --: | --: | --: |${speeds ? ' --: | --: | --: |' : ''} :-- |`,
      ...original,
      ...lines,
      '',
      ...notes.map(note => note.replaceAll('\u00a0', ' ')),
    ].join('\n') + '\n'
  )
}

/** Tokens a second of a prompt and of what follows it, and the cache of 1000 tokens; empty where they were not measured. */
function speedCells(speed: ModelSpeed | null): string[] {
  return speed === null
    ? ['', '', '']
    : [rate(speed.prompt), rate(speed.generation), speed.cache === null ? '' : bytes(speed.cache)]
}

function quoted(value: unknown): string {
  const text = value === null || value === undefined ? '' : String(value)
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

/** The choices at the sizes that the engine gave verdicts for, or else at those of the front but that of the original as it is. */
export function frontChoices(report: Comparison): ReturnType<typeof choiceAt>[] {
  const candidates = candidatesOf(report)
  const sizes = report.verdicts?.length
    ? report.verdicts.map(each => each.size)
    : frontOf(candidates)
        .filter(each => each.kl > 0)
        .map(each => each.bytes)
  return sizes.map(size => choiceAt(candidates, size))
}

/** The models that the verdicts name and the front has, the original as it is first: those whose speed is worth a look. */
export function namedModels(report: Comparison): Measured[] {
  const candidates = candidatesOf(report)
  const named = new Set(
    [...frontOf(candidates), ...frontChoices(report).flatMap(({ merged, unmerged }) => [merged, unmerged])].map(
      each => each?.key,
    ),
  )
  return candidates.filter(each => each.key === '' || named.has(each.key))
}

/** Who won, then the verdict at each size; nothing where only one type was compared. */
export function verdictLines(report: Comparison, title: Title): string[] {
  if (!hasFewerBits(report)) return []
  const smallest = candidatesOf(report).toSorted((a, b) => a.bytes - b.bytes)[0]
  const choices = frontChoices(report)
  return [
    summaryWords(choices),
    ...choices.map(choice => verdictWords(choice, report.model.layers, title, smallest, report.speeds)),
  ].filter(Boolean)
}

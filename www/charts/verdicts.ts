/**
 * Fewer layers or fewer bits: which model is best of those that are small enough. The engine says so for the sizes of its
 * front (`src/protocol/verdict.rs`); the user asks for any size, so that the choice is repeated here and held to the
 * engine's numbers by a test.
 */
import type { Candidate, CompareRow, Paired, Verdict } from '../engine/protocol/compare'
import { fasterWords, speedOf, within, type Comparison, type Speeds } from './speed'
import { bytes, nats } from '../ui/format'
import { typeName } from '../words/types'
import { keyOfRow } from './rows'

/** The method of a model of which no layer was removed. */
export const ORIGINAL = 'original'

export interface Measured extends Candidate {
  /** The row that it is; empty for the original as it is. */
  key: string
  merged: boolean
  by_sequence: readonly number[]
}

export type SizeChoice = Pick<Verdict, 'size' | 'merged' | 'unmerged' | 'difference'>

/** Whether the original was measured in fewer bits, so that the two can be set against each other. */
export function hasFewerBits(report: Pick<Comparison, 'originals'> | null): boolean {
  return (report?.originals?.length ?? 0) > 0
}

/** The original in each type as rows beside those of the methods, the types in the order of the report. */
export function originalRows(report: Comparison): CompareRow[] {
  return (report.originals ?? []).map(({ dtype, quality, kl_by_sequence, bytes: size, seconds }) => ({
    method: ORIGINAL,
    selection: 'hand',
    operator: 'drop',
    dtype,
    removed: 0,
    layers: report.model.layers,
    groups: [],
    quality,
    kl_by_sequence,
    parameters: report.parameters,
    bytes: size,
    seconds,
    error: null,
    warnings: [],
  }))
}

/** All models whose KL is a number, the original as it is first. */
export function candidatesOf(report: Comparison): Measured[] {
  const originals = originalRows(report)
  const itself: Measured = {
    key: '',
    method: ORIGINAL,
    dtype: 'keep',
    layers: report.model.layers,
    bytes: report.bytes,
    kl: 0,
    merged: false,
    by_sequence: (originals[0]?.kl_by_sequence ?? []).map(() => 0),
  }
  const all = [...originals, ...report.rows].flatMap((row): Measured[] => {
    const kl = row.quality?.kl ?? null
    if (kl === null || !Number.isFinite(kl)) return []
    const { method, dtype = 'keep', layers, bytes: size, kl_by_sequence: by_sequence = [] } = row
    return [{ key: keyOfRow(row), method, dtype, layers, bytes: size, kl, merged: method !== ORIGINAL, by_sequence }]
  })
  return [itself, ...all]
}

/** The models than which no smaller one, or one of the same size, is as good, from the smallest to the largest. */
export function frontOf<T extends Pick<Candidate, 'bytes' | 'kl'>>(candidates: readonly T[]): T[] {
  const front: T[] = []
  for (const each of candidates.toSorted((a, b) => a.bytes - b.bytes || a.kl - b.kl))
    if (front.length === 0 || each.kl < front.at(-1)!.kl) front.push(each)
  return front
}

/** The best merged and the best unmerged model of at most so many bytes. */
export function choiceAt(
  candidates: readonly Measured[],
  size: number,
): SizeChoice & { merged: Measured | null; unmerged: Measured | null } {
  const best = (merged: boolean) =>
    candidates.reduce<Measured | null>(
      (best, each) => (each.merged === merged && each.bytes <= size && (!best || each.kl < best.kl) ? each : best),
      null,
    )
  const [merged, unmerged] = [best(true), best(false)]
  return { size, merged, unmerged, difference: merged && unmerged && paired(merged.by_sequence, unmerged.by_sequence) }
}

export type Winner = 'merged' | 'unmerged' | 'equal' | 'unknown' | 'only merged' | 'only unmerged' | 'none'

export function winnerOf({ merged, unmerged, difference }: SizeChoice): Winner {
  if (!merged || !unmerged) return merged ? 'only merged' : unmerged ? 'only unmerged' : 'none'
  if (!difference) return 'unknown'
  return Math.abs(difference.difference) <= difference.margin
    ? 'equal'
    : difference.difference < 0
      ? 'merged'
      : 'unmerged'
}

/** One model in words, such as "Laminate with 26 of 30 layers in Q4_K_M". */
export function modelWords(
  { method, dtype, layers }: Candidate,
  of: number,
  title: (method: string) => string,
): string {
  return `${method === ORIGINAL ? 'the original' : `${title(method)} with ${layers} of ${of} layers`}${dtype === 'keep' ? '' : ` in ${typeName(dtype)}`}`
}

/** The verdict at one size, as a sentence that names the size. */
export function verdictWords(
  choice: SizeChoice,
  of: number,
  title: (method: string) => string,
  smallest: Candidate | undefined,
  speeds?: Speeds,
): string {
  return `At most ${bytes(choice.size)}: ${choiceWords(choice, of, title, smallest, speeds)}.`
}

/** The same as a clause, without the size. Where speeds were measured, it says how much faster the better model writes. */
export function choiceWords(
  choice: SizeChoice,
  of: number,
  title: (method: string) => string,
  smallest: Candidate | undefined,
  speeds?: Speeds,
): string {
  const { merged, unmerged, difference } = choice
  const bare = (x: number) => nats(x).replace('\u00a0nats', '')
  const words = (each: Candidate | null | undefined) =>
    each ? `${modelWords(each, of, title)} (${bytes(each.bytes)}, KL ${each.kl === 0 ? '0' : nats(each.kl)})` : 'none'
  const by = difference && `by ${bare(Math.abs(difference.difference))} ± ${bare(difference.margin)} nats a token`
  const speed = generationRatio(choice, speeds)
  const inverse = speed && { ...speed, ratio: 1 / speed.ratio }
  const faster = speed ? `, and the merged one is ${fasterWords(speed.ratio, speed.same)}` : ''
  const said: Record<Winner, () => string> = {
    merged: () => `${words(merged)} is better than ${words(unmerged)}, ${by}${speed ? better(speed) : ''}`,
    unmerged: () =>
      `${words(unmerged)} is better than ${words(merged)}, ${by}${inverse ? better(inverse) : ''}: merging ${inverse && inverse.ratio < 1 - inverse.same ? 'pays in speed only' : 'does not pay'}`,
    equal: () => `${words(merged)} and ${words(unmerged)} are equally good within the noise${faster}`,
    unknown: () => `${words(merged)} and ${words(unmerged)} cannot be told apart on so little text${faster}`,
    'only merged': () => `only merged models are that small; the best is ${words(merged)}`,
    'only unmerged': () => `no merged model is that small; the best of the others is ${words(unmerged)}`,
    none: () => `no model is that small; the smallest is ${words(smallest)}`,
  }
  return said[winnerOf(choice)]()
}

/** How many times as many tokens a second the merged model writes as the other one, and within what share that is noise; null where it was not measured of both. */
function generationRatio({ merged, unmerged }: SizeChoice, speeds: Speeds | undefined): Ratio | null {
  const [one, other] = [merged && speedOf(speeds, merged), unmerged && speedOf(speeds, unmerged)]
  return one && other && one.generation > 0 && other.generation > 0
    ? { ratio: one.generation / other.generation, same: within(one, other) }
    : null
}

interface Ratio {
  ratio: number
  same: number
}

/** How the better model's speed follows on what it is better by. */
function better({ ratio, same }: Ratio): string {
  return `, ${ratio < 1 - same ? 'but' : 'and'} is ${fasterWords(ratio, same)}`
}

/** Who won over all, from the verdicts at the sizes of the front: one or two sentences. */
export function summaryWords(choices: readonly SizeChoice[]): string {
  const count = (...of: Winner[]) => choices.filter(choice => of.includes(winnerOf(choice))).length
  const [merged, unmerged, close, alone] = [
    count('merged'),
    count('unmerged'),
    count('equal', 'unknown'),
    count('only merged'),
  ]
  const total = merged + unmerged + close
  if (total === 0)
    return alone > 0
      ? 'Only merged models were measured at the small sizes, so that nothing can be said of fewer bits. Compare in smaller types too.'
      : ''
  const sizes = (n: number) => (n === 1 ? '1 size' : `${n} sizes`)
  const small = alone > 0 ? ` At ${sizes(alone)} below, only merged models are that small.` : ''
  const each = total === 1 ? 'at the one size that was compared' : `at all ${total} sizes that were compared`
  if (unmerged === total)
    return `Fewer bits win: ${each}, the original in fewer bits loses less than any merged model. Merging does not pay here.${small}`
  if (merged === total)
    return `Fewer layers win: ${each}, a merged model loses less than the original in fewer bits.${small}`
  if (close === total)
    return `Neither wins: ${each}, the best merged model and the original in fewer bits are equally good within the noise.${small}`
  const parts = [
    unmerged > 0 && `the original in fewer bits is best at ${unmerged}`,
    merged > 0 && `a merged model${unmerged > 0 ? '' : ' is best'} at ${merged}`,
    close > 0 && `${close} ${close === 1 ? 'is' : 'are'} too close to call`,
  ].filter(part => part !== false)
  return `It depends on the size: of ${total} sizes, ${parts.slice(0, -1).join(', ')} and ${parts.at(-1)}.${small}`
}

/** Where a limit of the size can be set: from just below the smallest model to the largest, in about 200 steps. */
export function limitsOf(candidates: readonly Candidate[]): { least: number; most: number; step: number } {
  const sizes = candidates.map(each => each.bytes)
  const [smallest, most] = [Math.min(...sizes), Math.max(...sizes)]
  const step = Math.max(1, Math.round((most - smallest) / 200))
  return { least: most - Math.ceil((most - smallest) / step) * step, most, step }
}

/** The size to begin with: that of the front at which both kinds were measured, nearest to half of the original's. */
export function firstLimit(choices: readonly SizeChoice[], original: number): number {
  const both = choices.filter(({ merged, unmerged }) => merged && unmerged)
  const near = (both.length > 0 ? both : choices).toSorted(
    (a, b) => Math.abs(a.size - original / 2) - Math.abs(b.size - original / 2),
  )
  return near[0]?.size ?? original
}

/** Mean difference of two divergences over the same sequences, with half its 95 % interval (`Paired::of`); null for fewer than two. */
function paired(own: readonly number[], other: readonly number[]): Paired | null {
  const n = own.length
  if (n !== other.length || n < 2) return null
  const differences = own.map((kl, i) => kl - other[i]!)
  const difference = differences.reduce((a, b) => a + b, 0) / n
  const variance = differences.reduce((sum, x) => sum + (x - difference) ** 2, 0) / (n - 1)
  return { difference, margin: student(n - 1) * Math.sqrt(variance / n) }
}

/** The 97.5 % quantile of Student's distribution (Abramowitz and Stegun 26.7.5), as `student` in `src/protocol/compare.rs`. */
function student(freedom: number): number {
  const z = 1.959964
  const terms = [
    (z ** 3 + z) / 4,
    (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96,
    (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384,
    (79 * z ** 9 + 776 * z ** 7 + 1482 * z ** 5 - 1920 * z ** 3 - 945 * z) / 92160,
  ]
  return terms.reduce((sum, term, i) => sum + term / freedom ** (i + 1), z)
}

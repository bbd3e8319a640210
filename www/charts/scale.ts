import { interpolateCividis, interpolatePuOr, interpolateViridis } from 'd3-scale-chromatic'
import { bisectLeft, bisectRight, quantileSorted, ticks } from 'd3-array'
import { colourChannels, type Domain, type Palette } from './colour'

/** How values become places along the colours. */
export type ScaleKind = 'linear' | 'rank' | 'clipped'

export interface ColourScale {
  /** 0 to 1 along the colours. */
  place(value: number): number
  colour(value: number): string
  /** The colours as bytes, red, green, blue and opacity one after the other, for 256 places. */
  table: Uint8ClampedArray
  /** Numbers along the legend. */
  labels: { at: number; text: string }[]
  /** What the dark and the light end mean, in words. */
  ends: readonly [string, string]
  /** Where "no difference" lies, on a diverging scale. */
  centre: number | null
}

const SEQUENTIAL = { viridis: interpolateViridis, cividis: interpolateCividis }
/** Which side of zero has which colour; told apart by every kind of colour vision. Sentences take the words from here. */
export const SIDES = { below: 'orange', above: 'purple' } as const
const DIVERGING = (t: number) => interpolatePuOr(1 - t)
const STEPS = 256
/** A clipped scale leaves this share of the values at each end outside. */
const CLIPPED = 0.02

/** From dark (low) to light (high). `values` are those of the picture, without the diagonal; `domain` is that of a linear scale. */
export function sequentialScale(
  kind: ScaleKind,
  values: readonly number[],
  domain: Domain,
  palette: Palette,
): ColourScale {
  const sorted = sortedFinite(values)
  const colours = SEQUENTIAL[palette]
  if (kind === 'rank' && sorted.length > 1)
    return made(colours, byRank(sorted), rankLabels(sorted), ['the lowest', 'the highest'], null)
  const [low, high] = kind === 'clipped' && sorted.length > 1 ? clipped(sorted) : domain
  const outside = kind === 'clipped' && sorted.length > 1
  return made(
    colours,
    between(low, high),
    numberLabels(low, high),
    outside ? [`${short(low)} and less`, `${short(high)} and more`] : [short(low), short(high)],
    null,
  )
}

/** For differences: white where there is none, as far to both sides as the largest. */
export function divergingScale(kind: ScaleKind, values: readonly number[]): ColourScale {
  const sizes = sortedFinite(values.map(Math.abs))
  const furthest = sizes.at(-1) || 0.01
  if (kind === 'rank' && sizes.length > 1) {
    const rank = byRank(sizes)
    const quarters = [0.5, 1].map(p => quantileSorted(sizes, p) ?? 0)
    return made(
      DIVERGING,
      value => (value === 0 ? 0.5 : 0.5 + (Math.sign(value) * rank(Math.abs(value))) / 2),
      [...quarters.toReversed().map(q => -q), 0, ...quarters].map((q, i) => ({ at: i / 4, text: signed(q) })),
      ['the most below', 'the most above'],
      0.5,
    )
  }
  const extent = kind === 'clipped' && sizes.length > 1 ? quantileSorted(sizes, 1 - 2 * CLIPPED) || furthest : furthest
  const beyond = extent < furthest
  return made(
    DIVERGING,
    between(-extent, extent),
    [-extent, -extent / 2, 0, extent / 2, extent].map((value, i) => ({ at: i / 4, text: signed(value) })),
    beyond ? [`${signed(-extent)} and less`, `${signed(extent)} and more`] : [signed(-extent), signed(extent)],
    0.5,
  )
}

/** The colour of a signed value: white is zero, and `limit` is the end of both sides. */
export function signColour(value: number, limit: number): string {
  return DIVERGING(0.5 + 0.5 * Math.max(-1, Math.min(1, value / limit)))
}

/** The values off the diagonal, each pair once; rows may end at the diagonal or be empty. */
export function offDiagonal(values: readonly (readonly number[])[]): number[] {
  return values.flatMap((row, l) => row?.slice(0, l) ?? [])
}

function made(
  colours: (t: number) => string,
  place: (value: number) => number,
  labels: ColourScale['labels'],
  ends: readonly [string, string],
  centre: number | null,
): ColourScale {
  const bounded = (value: number) => Math.min(1, Math.max(0, place(value)))
  return { place: bounded, colour: value => colours(bounded(value)), table: tableOf(colours), labels, ends, centre }
}

const tables = new Map<(t: number) => string, Uint8ClampedArray>()

function tableOf(colours: (t: number) => string): Uint8ClampedArray {
  let table = tables.get(colours)
  if (!table) {
    table = new Uint8ClampedArray(STEPS * 4)
    for (let i = 0; i < STEPS; i++) table.set([...colourChannels(colours(i / (STEPS - 1))), 255], i * 4)
    tables.set(colours, table)
  }
  return table
}

function between(low: number, high: number): (value: number) => number {
  return value => (high > low ? (value - low) / (high - low) : 0.5)
}

/** Equal values share the middle of their places. */
function byRank(sorted: readonly number[]): (value: number) => number {
  const list = sorted as number[]
  return value => (bisectLeft(list, value) + bisectRight(list, value) - 1) / 2 / (list.length - 1)
}

function clipped(sorted: readonly number[]): Domain {
  const [low, high] = [
    quantileSorted(sorted as number[], CLIPPED) ?? 0,
    quantileSorted(sorted as number[], 1 - CLIPPED) ?? 1,
  ]
  return high > low ? [low, high] : [sorted[0]!, sorted.at(-1)!]
}

function rankLabels(sorted: readonly number[]): ColourScale['labels'] {
  return [0, 0.25, 0.5, 0.75, 1].map(at => ({ at, text: short(quantileSorted(sorted as number[], at) ?? 0) }))
}

function numberLabels(low: number, high: number): ColourScale['labels'] {
  const place = between(low, high)
  return ticks(low, high, 5).map(value => ({ at: place(value), text: String(value) }))
}

function sortedFinite(values: readonly number[]): number[] {
  return values.filter(Number.isFinite).sort((a, b) => a - b)
}

function short(value: number): string {
  return String(Number(value.toFixed(Math.abs(value) >= 0.995 || value === 0 ? 2 : 3)))
}

export function signed(value: number): string {
  return value === 0
    ? '0'
    : `${value > 0 ? '+' : '−'}${Math.abs(value) < 0.01 ? Math.abs(value).toFixed(4) : short(Math.abs(value))}`
}

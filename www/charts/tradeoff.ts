import { extent, mean } from 'd3-array'
import { scaleLinear, scaleLog, scaleSqrt } from 'd3-scale'
import { line } from 'd3-shape'
import type { CompareRow } from '../engine/protocol/compare'
import type { Measure } from './curve'
import { keyOfRow } from './rows'
import { KL_TICKS, logTicks, spaced, verticalTicks } from './ticks'

export interface TradeoffMark {
  key: string
  /** Place of its method among all methods, which decides shape and colour. */
  method: number
  x: number
  y: number
  collapsed: boolean
  /** The value lies above the scale. */
  above: boolean
}

export interface TradeoffPanel {
  measure: Measure
  marks: TradeoffMark[]
  /** One line a method, through its sizes. */
  lines: { method: number; path: string }[]
  /** The original: its height and its size; and where models count as collapsed. */
  original: { x: number; y: number } | null
  collapse: number | null
  /** Height of the strip at the top for what is above the scale; 0 where nothing is. */
  strip: number
  /** One for each number of layers removed, 0 for the original. */
  xTicks: { removed: number; bytes: number; at: number }[]
  yTicks: { value: number; at: number; label: string }[]
}

export interface TradeoffOptions {
  width: number
  height: number
  measure: Measure
  /** All methods there are. */
  names: readonly string[]
  original: { perplexity: number; bytes: number } | null
}

const STRIP = 36
/** Perplexity is drawn up to so many times the original's, KL up to so many times that of the worst model that works. */
const PERPLEXITY_CAP = 20
const KL_CAP = 2

/**
 * Quality against size. Methods that remove as many layers end at the same size, so their marks are set side by
 * side, in the order of the methods. What is far above the rest gets an arrow at the top instead of flattening
 * the picture. Perplexity is on a logarithmic scale, KL on a square-root one: it grows with the square of what
 * is changed.
 */
export function tradeoff(
  rows: readonly CompareRow[],
  { width, height, measure, names, original }: TradeoffOptions,
): TradeoffPanel {
  const measured = rows.flatMap(row => {
    const value = row.quality?.[measure] ?? null
    return value === null ? [] : [{ row, value, collapsed: row.quality?.collapsed ?? false }]
  })
  const sizes = [...measured.map(({ row }) => row.bytes), ...(original ? [original.bytes] : [])]
  const [least = 0, most = 1] = extent(sizes)
  const places = sizesOf(measured.map(({ row }) => row))
  const present = names.filter(name => measured.some(({ row }) => row.method === name))
  const domainX = [least, least === most ? least + 1 : most]
  const step = stepOf(
    places.map(({ bytes }) => scaleLinear(domainX, [0, width - 80])(bytes)),
    present.length,
    width,
  )
  const margin = Math.max(36, 10 + (step * (present.length - 1)) / 2)
  const x = scaleLinear(domainX, [margin, width - (original ? 36 : margin)])
  const { domain, cap } = domainOf(measured, measure, original?.perplexity ?? null)
  const over = (value: number) => !(value <= cap)
  const strip = measured.some(({ value }) => over(value)) ? STRIP : 0
  const y = (measure === 'kl' ? scaleSqrt(domain, [height, strip]) : scaleLog(domain, [height, strip])).clamp(true)
  const marks = measured.map(({ row, value, collapsed }): TradeoffMark => ({
    key: keyOfRow(row),
    method: Math.max(0, names.indexOf(row.method)),
    collapsed,
    above: over(value),
    x: x(row.bytes) + (present.indexOf(row.method) - (present.length - 1) / 2) * step,
    y: over(value) ? strip / 2 + 4 : y(value),
  }))
  const limit = original && measure === 'perplexity' ? original.perplexity * 10 : Infinity
  return {
    measure,
    marks,
    strip,
    lines: [...new Set(marks.map(mark => mark.method))].map(method => ({
      method,
      path:
        line<TradeoffMark>()
          .x(m => m.x)
          .y(m => m.y)(marks.filter(m => m.method === method).toSorted((a, b) => a.x - b.x)) ?? '',
    })),
    original: original && { x: x(original.bytes), y: y(measure === 'kl' ? 0 : original.perplexity) },
    collapse: limit <= domain[1] ? y(limit) : null,
    xTicks: spaced(
      [...(original ? [{ removed: 0, bytes: original.bytes }] : []), ...places].map(place => ({
        ...place,
        at: x(place.bytes),
      })),
      72,
    ),
    yTicks: verticalTicks(measure === 'kl' ? KL_TICKS.filter(value => value <= domain[1]) : logTicks(y.ticks(5)), y),
  }
}

function domainOf(
  measured: readonly { value: number; collapsed: boolean }[],
  measure: Measure,
  original: number | null,
): { domain: [number, number]; cap: number } {
  const finite = measured.map(({ value }) => value).filter(Number.isFinite)
  const largest = Math.max(0, ...finite)
  if (measure === 'kl') {
    const working = measured
      .filter(({ value, collapsed }) => !collapsed && Number.isFinite(value))
      .map(({ value }) => value)
    const cap = working.length > 0 ? KL_CAP * Math.max(0.05, ...working) : Math.max(largest, 0.1)
    return { domain: [0, Math.max(0.01, Math.min(largest, cap)) * 1.05], cap }
  }
  const lowest = Math.min(...finite.filter(value => value > 0), original ?? Infinity)
  const base = Number.isFinite(lowest) ? lowest : 1
  const cap = (original ?? base) * PERPLEXITY_CAP
  return { domain: [base * 0.95, Math.max(Math.min(largest, cap), base * 1.5) * 1.05], cap }
}

/** The sizes that there are, from the largest: the mean of the models with as many layers removed. */
function sizesOf(rows: readonly CompareRow[]): { removed: number; bytes: number }[] {
  const counts = [...new Set(rows.map(row => row.removed))].toSorted((a, b) => a - b)
  return counts.map(removed => ({
    removed,
    bytes:
      mean(
        rows.filter(row => row.removed === removed),
        row => row.bytes,
      ) ?? 0,
  }))
}

/** How far marks of one size stand from each other, so that they do not lie on one heap nor reach the next size. */
function stepOf(places: readonly number[], methods: number, width: number): number {
  const gap = Math.min(width / 2, ...places.slice(1).map((place, i) => Math.abs(place - places[i]!)))
  return Math.min(11, (0.75 * gap) / Math.max(1, methods))
}

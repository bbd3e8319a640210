import { scaleLinear, scaleLog } from 'd3-scale'
import { line } from 'd3-shape'
import type { NumberType } from '../engine/protocol/output'
import { bytes } from '../ui/format'
import { typeName } from '../words/types'
import { spaced, logTicks, tickLabel } from './ticks'
import { frontOf, type Measured } from './verdicts'

export interface FrontierMark {
  key: string
  /** Place of its method among all methods; null for the original. */
  method: number | null
  x: number
  y: number
  collapsed: boolean
  front: boolean
  /** Layers and type; where there was no room, only read out. */
  label: { text: string; x: number; y: number; anchor: 'start' | 'end' | 'middle' } | null
}

export interface Frontier {
  marks: FrontierMark[]
  /** The least KL of any model that is at most so large, as stairs. */
  front: string
  /** Through the original from type to type. */
  originals: string
  logarithmic: boolean
  /** Height of no divergence at all. */
  zero: number
  xTicks: { at: number; label: string }[]
  yTicks: { value: number; at: number; label: string }[]
  /** Where a size lies, kept inside the plot. */
  x(size: number): number
}

export interface FrontierOptions {
  width: number
  height: number
  /** All methods there are. */
  names: readonly string[]
  collapsed: ReadonlySet<string>
}

/** The values span a decade from here on, and are drawn on a logarithmic scale. */
const DECADE = 10
/** So much smaller than the largest is as good as none. */
const NOTHING = 1e-6
/** Room of a logarithmic scale for what it cannot show: no divergence. */
const FLOOR = 36
const MARGIN = 36
/** Room at the top for what the limit of the size is called. */
const HEAD = 22
/** From so many decades on, the ticks are the powers of ten. */
const MANY = 1000
const [LETTER, LINE] = [6.4, 14]

/** "10 layers", "10 in Q4_K_M". */
function markLabel({ layers, dtype }: { layers: number; dtype: NumberType }): string {
  return dtype === 'keep' ? `${layers} layers` : `${layers} in ${typeName(dtype)}`
}

/**
 * KL against size, with the models than which nothing smaller is as good joined by stairs: a limit of the size meets the
 * stairs at the best that it allows. KL is on a logarithmic scale where the values span decades, otherwise on a linear
 * one from 0; the original as it is stands at 0 on both.
 */
export function frontier(
  candidates: readonly Measured[],
  { width, height, names, collapsed }: FrontierOptions,
): Frontier {
  const sizes = candidates.map(each => each.bytes)
  const [least, most] = sizes.length > 0 ? [Math.min(...sizes), Math.max(...sizes)] : [0, 1]
  const x = scaleLinear([least, least === most ? least + 1 : most], [24, width - 24]).clamp(true)
  const largest = Math.max(0, ...candidates.map(each => each.kl))
  const values = candidates.map(each => each.kl).filter(kl => kl > NOTHING * largest)
  const smallest = values.length > 0 ? Math.min(...values) : 0
  const logarithmic = smallest > 0 && largest >= DECADE * smallest
  const zero = height - 8
  const log = scaleLog([(smallest || 0.1) * 0.8, (largest || 1) * 1.25], [height - FLOOR, MARGIN]).clamp(true)
  const linear = scaleLinear([0, (largest || 0.1) * 1.1], [zero, MARGIN])
  const y = (kl: number) => (kl <= NOTHING * largest ? zero : logarithmic ? log(kl) : linear(kl))
  const best = frontOf(candidates)
  const placed = candidates.map(each => ({ each, x: x(each.bytes), y: y(each.kl) }))
  const labels = labelled(placed, best, width, height)
  const marks = placed.map(({ each, ...at }): FrontierMark => ({
    ...at,
    key: each.key,
    method: each.merged ? Math.max(0, names.indexOf(each.method)) : null,
    collapsed: collapsed.has(each.key),
    front: best.includes(each),
    label: labels.get(each) ?? null,
  }))
  const through = line<{ x: number; y: number }>()
    .x(p => p.x)
    .y(p => p.y)
  const originals = placed.filter(({ each }) => !each.merged).toSorted((a, b) => a.x - b.x)
  const powers = (values: readonly number[]) =>
    largest >= MANY * smallest
      ? values.filter(value => Number.isInteger(Number(Math.log10(value).toFixed(6))))
      : logTicks(values)
  const ticks = logarithmic ? powers(log.ticks(6)) : linear.ticks(5).filter(value => value > 0)
  return {
    marks,
    logarithmic,
    zero,
    x: size => x(size),
    front: stairs(
      best.map(each => [x(each.bytes), y(each.kl)]),
      width,
    ),
    originals: originals.length > 1 ? (through(originals) ?? '') : '',
    xTicks: spaced(
      x.ticks(Math.max(2, Math.floor(width / 110))).map(size => ({ at: x(size), label: bytes(size) })),
      72,
    ),
    yTicks: [
      { value: 0, at: zero, label: '0' },
      ...spaced(
        ticks.map(value => ({ value, at: logarithmic ? log(value) : linear(value), label: labelOf(value) })),
        22,
      ),
    ],
  }
}

/** Small powers of ten as powers, so that they fit beside the axis. */
function labelOf(value: number): string {
  const power = Math.round(Math.log10(value))
  return value < 0.001 && Math.abs(value / 10 ** power - 1) < 1e-6
    ? `10⁻${[...String(-power)].map(digit => '⁰¹²³⁴⁵⁶⁷⁸⁹'[Number(digit)]).join('')}`
    : tickLabel(value)
}

/** From each model across to the size of the next better one, then down; from the last on to the edge. */
function stairs(points: readonly (readonly [number, number])[], width: number): string {
  const [first, ...others] = points
  if (!first) return ''
  const n = (value: number) => Number(value.toFixed(1))
  return `M${n(first[0])} ${n(first[1])}${others.map(([x, y]) => `H${n(x)}V${n(y)}`).join('')}H${n(width)}`
}

/** Labels where they cover neither a mark nor each other: those of the front first, then of the original, then of the rest. */
function labelled(
  placed: readonly { each: Measured; x: number; y: number }[],
  front: readonly Measured[],
  width: number,
  height: number,
) {
  const order = placed.toSorted(
    (a, b) =>
      Number(front.includes(b.each)) - Number(front.includes(a.each)) || Number(a.each.merged) - Number(b.each.merged),
  )
  const taken: Box[] = placed.map(({ x, y }) => [x - 7, y - 7, x + 7, y + 7])
  const labels = new Map<Measured, NonNullable<FrontierMark['label']>>()
  for (const { each, x, y } of order) {
    const text = each.key === '' ? 'original' : markLabel(each)
    const wide = text.length * LETTER
    const below: Place[] = [
      ['middle', x, y + 17],
      ['end', x - 4, y + 17],
      ['start', x + 4, y + 17],
      ['end', x - 11, y],
    ]
    const above: Place[] = [
      ['middle', x, y - 17],
      ['start', x + 11, y],
      ['end', x - 11, y],
      ['start', x + 4, y - 17],
      ['end', x - 4, y - 17],
    ]
    // Nothing lies below the front: nothing so small is better.
    const places = front.includes(each) ? [...below, ...above] : [...above, ...below]
    for (const [anchor, at, middle] of places) {
      const left = anchor === 'start' ? at : anchor === 'end' ? at - wide : at - wide / 2
      const box: Box = [left, middle - LINE / 2, left + wide, middle + LINE / 2]
      const own = taken[placed.findIndex(other => other.each === each)]
      if (
        box[0] < 0 ||
        box[2] > width ||
        box[1] < HEAD ||
        box[3] > height ||
        taken.some(other => other !== own && overlap(box, other))
      )
        continue
      taken.push(box)
      labels.set(each, { text, x: at, y: middle, anchor })
      break
    }
  }
  return labels
}

type Place = [anchor: 'start' | 'end' | 'middle', x: number, y: number]
type Box = [left: number, top: number, right: number, bottom: number]

function overlap(a: Box, b: Box): boolean {
  return a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

/** The mark nearest to a place, within reach of a finger. */
export function nearestMark(marks: readonly FrontierMark[], x: number, y: number, reach = 24): FrontierMark | null {
  const far = (mark: FrontierMark) => Math.hypot(mark.x - x, mark.y - y)
  const nearest = marks.reduce<FrontierMark | null>(
    (best, mark) => (!best || far(mark) < far(best) ? mark : best),
    null,
  )
  return nearest && far(nearest) <= reach ? nearest : null
}

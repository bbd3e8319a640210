import { extent } from 'd3-array'
import { scaleLinear } from 'd3-scale'
import type { PlaneMap } from './information'

export interface Plane {
  /** Pixels of each text. */
  x: number[]
  y: number[]
  /** Pixels of one unit; the same both ways. */
  unit: number
  xTicks: { value: number; at: number }[]
  yTicks: { value: number; at: number }[]
}

const PAD = 18

/** Lays a map out in a box, both ways to the same scale: distances in it mean something. */
export function plane([xs, ys]: PlaneMap, width: number, height: number): Plane {
  const [x0, x1] = range(xs)
  const [y0, y1] = range(ys)
  const unit = Math.min((width - 2 * PAD) / (x1 - x0), (height - 2 * PAD) / (y1 - y0))
  const x = (value: number) => width / 2 + (value - (x0 + x1) / 2) * unit
  const y = (value: number) => height / 2 - (value - (y0 + y1) / 2) * unit
  const ticks = (middle: number, size: number, at: (value: number) => number) =>
    scaleLinear([middle - size / 2 / unit, middle + size / 2 / unit], [0, size]).ticks(4).map(value => ({ value, at: at(value) }))
  return {
    x: Array.from(xs, x), y: Array.from(ys, y), unit,
    xTicks: ticks((x0 + x1) / 2, width, x), yTicks: ticks((y0 + y1) / 2, height, y),
  }
}

function range(values: ArrayLike<number>): [number, number] {
  const [low, high] = extent(Array.from(values))
  if (low === undefined || high === undefined) return [0, 1]
  return low === high ? [low - 0.5, high + 0.5] : [low, high]
}

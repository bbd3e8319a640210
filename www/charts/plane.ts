/** A map laid out in a picture: both axes have the same scale, since distances in a map mean something. */
import { extent } from 'd3-array'
import { scaleLinear } from 'd3-scale'

export interface Frame {
  width: number
  height: number
  /** Room between the outermost points and the edge. */
  pad: number
}

export interface Tick {
  value: number
  /** In pixels. */
  at: number
}

/** Coordinates to pixels, whole and centred, the second upwards. */
export function planeOf(
  [x0, x1]: readonly [number, number],
  [y0, y1]: readonly [number, number],
  { width, height, pad }: Frame,
) {
  /** Pixels of one unit, both ways. */
  const unit = Math.max(1e-12, Math.min((width - 2 * pad) / (x1 - x0), (height - 2 * pad) / (y1 - y0)))
  const [xMiddle, yMiddle] = [(x0 + x1) / 2, (y0 + y1) / 2]
  const x = (value: number) => width / 2 + (value - xMiddle) * unit
  const y = (value: number) => height / 2 - (value - yMiddle) * unit
  const ticks = (middle: number, size: number, at: (value: number) => number): Tick[] =>
    scaleLinear()
      .domain([middle - size / 2 / unit, middle + size / 2 / unit])
      .ticks(4)
      .map(value => ({ value, at: at(value) }))
  return { unit, x, y, xTicks: ticks(xMiddle, width, x), yTicks: ticks(yMiddle, height, y) }
}

/** From the least to the largest; never of no length. */
export function bounds(values: ArrayLike<number>): [number, number] {
  const [low, high] = extent(Array.from(values))
  if (low === undefined || high === undefined) return [0, 1]
  return low === high ? [low - 0.5, high + 0.5] : [low, high]
}

import { extent } from 'd3-array'
import { scaleLinear } from 'd3-scale'
import { colourOf, type Palette } from './colour'

export interface Dot {
  point: number
  x: number
  y: number
  fill: string
}

export interface ScatterChart {
  dots: Dot[]
  xTicks: { value: number; at: number }[]
  yTicks: { value: number; at: number }[]
}

export interface ScatterOptions {
  width: number
  height: number
  palette: Palette
  /** One value a point that decides its colour. */
  colourBy: readonly number[]
  /** Coordinates to show; a map of one dimension is drawn on a line. */
  axes?: readonly [number, number]
}

/** A layer's diffusion map. Both axes have the same scale: distances in a map mean something. */
export function scatterChart(map: readonly (readonly number[])[], { width, height, palette, colourBy, axes = [0, 1] }: ScatterOptions): ScatterChart {
  const xs = map.map(point => point[axes[0]] ?? 0)
  const ys = map.map(point => point[axes[1]] ?? 0)
  const [x0, x1] = bounds(xs)
  const [y0, y1] = bounds(ys)
  const pad = 12
  const unit = Math.min((width - 2 * pad) / (x1 - x0), (height - 2 * pad) / (y1 - y0))
  const x = scaleLinear([(x0 + x1) / 2 - width / 2 / unit, (x0 + x1) / 2 + width / 2 / unit], [0, width])
  const y = scaleLinear([(y0 + y1) / 2 - height / 2 / unit, (y0 + y1) / 2 + height / 2 / unit], [height, 0])
  const domain = bounds(colourBy)
  return {
    dots: map.map((_, point) => ({ point, x: x(xs[point]!), y: y(ys[point]!), fill: colourOf(colourBy[point] ?? 0, palette, domain) })),
    xTicks: x.ticks(4).map(value => ({ value, at: x(value) })),
    yTicks: y.ticks(4).map(value => ({ value, at: y(value) })),
  }
}

/** Rank of each value, 0 to 1: colours spread evenly whatever the outliers. */
export function ranks(values: readonly number[]): number[] {
  const order = values.map((_, i) => i).sort((a, b) => values[a]! - values[b]! || a - b)
  const rank = new Array<number>(values.length)
  order.forEach((index, place) => { rank[index] = values.length > 1 ? place / (values.length - 1) : 0 })
  return rank
}

function bounds(values: readonly number[]): [number, number] {
  const [low, high] = extent(values as number[])
  if (low === undefined || high === undefined) return [0, 1]
  return low === high ? [low - 0.5, high + 0.5] : [low, high]
}

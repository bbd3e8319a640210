import { colourOf, type Palette } from './colour'
import { bounds, planeOf, type Tick } from './plane'

export interface Dot {
  point: number
  x: number
  y: number
  fill: string
}

export interface ScatterChart {
  dots: Dot[]
  xTicks: Tick[]
  yTicks: Tick[]
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

/** A layer's diffusion map. */
export function scatterChart(
  map: readonly (readonly number[])[],
  { width, height, palette, colourBy, axes = [0, 1] }: ScatterOptions,
): ScatterChart {
  const xs = map.map(point => point[axes[0]] ?? 0)
  const ys = map.map(point => point[axes[1]] ?? 0)
  const { x, y, xTicks, yTicks } = planeOf(bounds(xs), bounds(ys), { width, height, pad: 12 })
  const domain = bounds(colourBy)
  return {
    dots: map.map((_, point) => ({
      point,
      x: x(xs[point]!),
      y: y(ys[point]!),
      fill: colourOf(colourBy[point] ?? 0, palette, domain),
    })),
    xTicks,
    yTicks,
  }
}

/** Rank of each value, 0 to 1: colours spread evenly whatever the outliers. */
export function ranks(values: readonly number[]): number[] {
  const order = values.map((_, i) => i).sort((a, b) => values[a]! - values[b]! || a - b)
  const rank = new Array<number>(values.length)
  order.forEach((index, place) => {
    rank[index] = values.length > 1 ? place / (values.length - 1) : 0
  })
  return rank
}

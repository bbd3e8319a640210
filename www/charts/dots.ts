/** Where the points of a map lie in a picture of it: pure functions, for canvas and SVG alike. */
import type { LayerMap } from '../engine/protocol/engine'
import { planeOf, type Frame, type Tick } from './plane'

export interface Fitted {
  /** x and y of each point in turn, in pixels. */
  at: Float32Array
  xTicks: Tick[]
  yTicks: Tick[]
}

/** The first two coordinates, whole and centred; both axes have the same scale, since distances in a map mean something. */
export function fitMap({ coordinates, dims }: Pick<LayerMap, 'coordinates' | 'dims'>, frame: Frame): Fitted {
  const { x, y, xTicks, yTicks } = planeOf(boundsAlong(coordinates, dims, 0), boundsAlong(coordinates, dims, 1), frame)
  const n = dims > 0 ? coordinates.length / dims : 0
  const at = new Float32Array(2 * n)
  for (let point = 0; point < n; point++) {
    at[2 * point] = x(coordinates[point * dims]!)
    at[2 * point + 1] = y(dims > 1 ? coordinates[point * dims + 1]! : 0)
  }
  return { at, xTicks, yTicks }
}

/** The point nearest to a place, where one is within reach; null otherwise. */
export function nearest(at: Float32Array, x: number, y: number, reach: number): number | null {
  let best: number | null = null
  let least = reach * reach
  for (let point = 0; 2 * point < at.length; point++) {
    const distance = (at[2 * point]! - x) ** 2 + (at[2 * point + 1]! - y) ** 2
    if (distance <= least) [best, least] = [point, distance]
  }
  return best
}

/** Points from left to right: the order of the arrow keys. */
export function leftToRight(at: Float32Array): number[] {
  return Array.from({ length: at.length / 2 }, (_, point) => point).sort((a, b) => at[2 * a]! - at[2 * b]! || a - b)
}

/** Radius of a dot among so many: they should not cover each other before they must. */
export function dotRadius(n: number, { width, height }: Pick<Frame, 'width' | 'height'>): number {
  return Math.max(1, Math.min(4.5, Math.sqrt((width * height) / Math.max(1, n)) / 8))
}

/** Columns of small pictures such that rows are even. */
export function columnsFor(n: number, width: number, least: number, gap: number): number {
  const most = Math.max(1, Math.floor((width + gap) / (least + gap)))
  return Math.ceil(n / Math.ceil(n / most)) || 1
}

export interface Painting extends Frame {
  colours: readonly string[]
  radius: number
  /** Colour of a thin edge round each dot, so that light dots are seen on a light ground; none for small ones. */
  edge: string | null
}

/** Draws the dots on a canvas that is `scale` times as fine as the page's pixels. */
export function paintDots(
  context: CanvasRenderingContext2D,
  at: Float32Array,
  { width, height, colours, radius, edge }: Painting,
  scale: number,
): void {
  context.setTransform(scale, 0, 0, scale, 0, 0)
  context.clearRect(0, 0, width, height)
  if (edge) context.strokeStyle = edge
  context.lineWidth = 0.75
  for (let point = 0; 2 * point < at.length; point++) {
    context.fillStyle = colours[point] ?? '#888'
    context.beginPath()
    context.arc(at[2 * point]!, at[2 * point + 1]!, radius, 0, 2 * Math.PI)
    context.fill()
    if (edge) context.stroke()
  }
}

/** Of one coordinate of points that lie one after the other, of which a slider lays out thousands at a time. */
function boundsAlong(coordinates: Float64Array, dims: number, axis: number): [number, number] {
  let [low, high] = [Infinity, -Infinity]
  if (axis < dims)
    for (let i = axis; i < coordinates.length; i += dims)
      [low, high] = [Math.min(low, coordinates[i]!), Math.max(high, coordinates[i]!)]
  if (low > high) return [-0.5, 0.5]
  return low === high ? [low - 0.5, high + 0.5] : [low, high]
}

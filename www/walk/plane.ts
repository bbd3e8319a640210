import { bounds, planeOf, type Tick } from '../charts/plane'
import type { PlaneMap } from './information'

export interface Plane {
  /** Pixels of each text. */
  x: number[]
  y: number[]
  /** Pixels of one unit; the same both ways. */
  unit: number
  xTicks: Tick[]
  yTicks: Tick[]
  /** Whether the texts are on their way to other places. */
  moving: boolean
}

/** Lays a map out in a box. */
export function plane([xs, ys]: PlaneMap, width: number, height: number): Plane {
  const { unit, x, y, xTicks, yTicks } = planeOf(bounds(xs), bounds(ys), { width, height, pad: 18 })
  return { x: Array.from(xs, x), y: Array.from(ys, y), unit, xTicks, yTicks, moving: false }
}

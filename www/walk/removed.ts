/** Measures against layers removed, from one layer up. */
import { scalePoint } from 'd3-scale'
import { line } from 'd3-shape'

export interface Line {
  path: string
  dots: { x: number; y: number }[]
}

/** Where 1 to `most` layers removed stand in a picture of this width. */
export function removedScale(most: number, width: number): (removed: number) => number {
  const point = scalePoint(
    Array.from({ length: most }, (_, i) => i + 1),
    [0, width],
  ).padding(0.5)
  return removed => point(removed) ?? 0
}

/** A line through what was measured with one layer removed, two, and so on. */
export function through(values: readonly number[], x: (removed: number) => number, y: (value: number) => number): Line {
  const dots = values.map((value, i) => ({ x: x(i + 1), y: y(value) }))
  const path = line<{ x: number; y: number }>(
    dot => dot.x,
    dot => dot.y,
  )(dots)
  return { dots, path: path ?? '' }
}

import { scaleLinear } from 'd3-scale'
import { line } from 'd3-shape'
import type { MergeStep } from '../engine/protocol/plan'
import { similarityElbow } from './elbow'
import type { Neighbour } from './neighbours'
import { spaced } from './ticks'

export interface MergePoint {
  /** The how-manieth merge, from 1. */
  merge: number
  value: number
  x: number
  y: number
}

export interface SimilarityCurve {
  /** Neighbours of the first matrix, the most alike first, and whether the present choice points at them. */
  ranked: (MergePoint & { chosen: boolean })[]
  rankedPath: string
  /** The similarity of each merge at the time, where a plan was made. */
  made: MergePoint[]
  madePath: string
  /** The weight of the earlier layer in each merge, where there are weights and they are not the similarity. */
  alpha: MergePoint[]
  alphaPath: string
  /** Merges before the elbow of what was made or, before that, of the matrix; null where there is none. */
  elbow: number | null
  x(merge: number): number
  y(value: number): number
  xTicks: { value: number; at: number }[]
  yTicks: { value: number; at: number }[]
}

/** How alike the layers of each merge are, from the first merge on: where the curve falls, redundancy ends. */
export function similarityCurve(
  pairs: readonly Neighbour[],
  steps: readonly MergeStep[],
  { width, height, weighted = true }: { width: number; height: number; weighted?: boolean },
): SimilarityCurve {
  const ordered = pairs.toSorted((a, b) => b.similarity - a.similarity)
  const descending = ordered.map(pair => pair.similarity)
  const most = Math.max(2, descending.length)
  const alphas =
    weighted && steps.some(step => Math.abs(step.alpha - step.similarity) > 1e-9) ? steps.map(step => step.alpha) : []
  const low = Math.min(0, ...descending, ...steps.map(step => step.similarity))
  const x = scaleLinear([1, most], [0, width])
  const y = scaleLinear([low, 1], [height, 0])
  const place = (values: readonly number[]) =>
    values.map((value, i): MergePoint => ({ merge: i + 1, value, x: x(i + 1), y: y(value) }))
  const path = (points: readonly MergePoint[]) =>
    line<MergePoint>()
      .x(p => p.x)
      .y(p => p.y)([...points]) ?? ''
  const ranked = place(descending).map((point, i) => ({ ...point, chosen: ordered[i]!.chosen }))
  const [made, alpha] = [place(steps.map(step => step.similarity)), place(alphas)]
  return {
    ranked,
    rankedPath: path(ranked),
    made,
    madePath: path(made),
    alpha,
    alphaPath: path(alpha),
    elbow: similarityElbow(descending),
    x,
    y,
    xTicks: spaced(
      Array.from({ length: most }, (_, i) => ({ value: i + 1, at: x(i + 1) })),
      28,
    ),
    yTicks: y.ticks(5).map(value => ({ value, at: y(value) })),
  }
}

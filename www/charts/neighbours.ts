import type { PlanOptions } from '../engine/protocol/plan'
import type { SimilarityReport } from '../engine/protocol/similarity'
import { colourOf, type Domain, type Palette } from './colour'
import { valueAt } from './matrix'
import { cheapestRuns } from './runs'

export interface Neighbour {
  /** Between this layer and the next. */
  layer: number
  similarity: number
  colour: string
  /** Whether the present choice points at it. */
  chosen: boolean
  /** How many of those that are chosen come before it; infinite for the others. */
  rank: number
}

export type NeighbourBar = {
  remove: number | null
  min_similarity: number | null
  /** Pairs with one of these are left alone. */
  locked?: readonly number[]
  keep_first?: boolean
  keep_last?: boolean
  release_massive?: boolean
  /** The most layers that may become one; any number where it is null. */
  longest_run?: number | null
  /** Block Influence of every layer, where runs are chosen by it and by the similarity of their ends. */
  influence?: readonly number[] | undefined
}

/** What the options of a plan point at in the first matrix. */
export function neighbourChoice(
  options: PlanOptions,
  locked: readonly number[],
  report: Pick<SimilarityReport, 'block_influence'>,
): NeighbourBar {
  return { ...options, locked, influence: options.selection === 'redundancy' ? report.block_influence : undefined }
}

/**
 * The similarity of each layer to the next, and the pairs that the choice points at in this matrix. The
 * engine measures again after every merge, so this is where it begins, not the plan.
 */
export function neighbours(
  matrix: readonly (readonly number[])[],
  choice: NeighbourBar,
  palette: Palette,
  domain: Domain,
  massive: readonly number[] = [],
): Neighbour[] {
  const values = Array.from({ length: Math.max(0, matrix.length - 1) }, (_, l) => valueAt(matrix, l, l + 1) ?? 0)
  const last = values.length - 1
  const barred = (l: number) =>
    Boolean(
      choice.locked?.includes(l) ||
      choice.locked?.includes(l + 1) ||
      (choice.keep_first && l === 0) ||
      (choice.keep_last && l === last) ||
      // What writes a massive activation reads what an original layer wrote, where runs are chosen by what layers do.
      (!choice.release_massive && (massive.includes(l + 1) || (choice.influence && massive.includes(l + 2)))),
    )
  const order = values
    .map((_, l) => l)
    .filter(l => !barred(l))
    .sort((a, b) => values[b]! - values[a]! || b - a)
  const alike = choice.remove !== null ? order : order.filter(l => values[l]! >= (choice.min_similarity ?? 1))
  const most = choice.remove ?? alike.length
  const { influence, longest_run } = choice
  const taken =
    influence?.length === matrix.length
      ? inCheapRuns(matrix, alike, influence, most, longest_run ?? Infinity)
      : inShortRuns(alike, longest_run ?? Infinity).slice(0, most)
  const ranks = new Map(taken.map((layer, rank) => [layer, rank]))
  return values.map((similarity, layer) => ({
    layer,
    similarity,
    colour: colourOf(similarity, palette, domain),
    chosen: ranks.has(layer),
    rank: ranks.get(layer) ?? Infinity,
  }))
}

/** Of pairs in their order those that, taken one after the other, make no run longer than allowed. */
function inShortRuns(order: readonly number[], most: number): number[] {
  const taken = new Set<number>()
  const length = (from: number, by: 1 | -1): number => (taken.has(from) ? 1 + length(from + by, by) : 0)
  for (const l of order) if (length(l - 1, -1) + length(l + 1, 1) + 2 <= most) taken.add(l)
  return [...taken]
}

/**
 * Pairs that make the runs which change the map and turn the stream least: the least sum of `(1 - S(first, last))` times
 * the Block Influences of the run; runs that cost least for each layer removed first.
 */
function inCheapRuns(
  matrix: readonly (readonly number[])[],
  allowed: readonly number[],
  influence: readonly number[],
  most: number,
  longest: number,
): number[] {
  const may = new Set(allowed)
  const cost = (first: number, last: number) => {
    for (let l = first; l < last; l++) if (!may.has(l)) return null
    return (
      (1 - (valueAt(matrix, first, last) ?? 0)) * influence.slice(first, last + 1).reduce((sum, each) => sum + each, 0)
    )
  }
  const each = ([first, last]: readonly [number, number]) => cost(first, last)! / (last - first)
  const runs = cheapestRuns(matrix.length, Math.min(most, matrix.length - 1), longest, cost).sort(
    (a, b) => each(a) - each(b),
  )
  return runs.flatMap(([first, last]) => Array.from({ length: last - first }, (_, i) => first + i))
}

/** How many neighbours are this similar: a first value for "layers to remove". */
export function countAbove(matrix: readonly (readonly number[])[], threshold: number): number {
  return matrix.filter((_, l) => l > 0 && (valueAt(matrix, l - 1, l) ?? 0) >= threshold).length
}

/** The first of the pairs of neighbours that are most alike. */
export function mostAlike(matrix: readonly (readonly number[])[]): readonly [number, number] {
  let best: readonly [number, number] = [0, Math.min(1, matrix.length - 1)]
  for (let l = 0; l + 1 < matrix.length; l++) if (matrix[l]![l + 1]! > matrix[best[0]]![best[1]]!) best = [l, l + 1]
  return best
}

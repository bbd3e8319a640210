import { medianOf, normalised, pairsOf, squaredDistances } from './distances'
import { eigen, type Eigen } from './eigen'
import { gaussian, stationary, stepChances, symmetricConjugate } from './operator'
import type { Square } from './square'

/** Bandwidths that can be chosen, as multiples of a layer's median squared distance. */
export const BANDWIDTHS = Array.from({ length: 11 }, (_, i) => 2 ** ((i - 6) / 2))
export const MEDIAN = 6

/** A layer before a bandwidth is chosen. */
export interface Layer {
  points: Float64Array[]
  d2: Square
  /** Ascending. */
  pairs: Float64Array
  median: number
}

/** A layer's texts as a graph to walk on. */
export interface Graph {
  epsilon: number
  w: Square
  /** Chances of a step. */
  p: Square
  /** Where a long walk is. */
  longRun: Float64Array
  readonly eigen: Eigen
}

/** Layers and graphs are computed when they are first asked for, and kept. */
export class Geometry {
  readonly #layers = new Map<number, Layer>()
  readonly #graphs = new Map<string, Graph>()

  /** `points[layer][text]`, as the model has them. */
  constructor(readonly points: readonly Float64Array[][]) {}

  layer(layer: number): Layer {
    return kept(this.#layers, layer, () => {
      const points = this.points[layer]!.map(normalised)
      const d2 = squaredDistances(points)
      const pairs = pairsOf(d2)
      return { points, d2, pairs, median: medianOf(pairs) }
    })
  }

  /** With a bandwidth of `BANDWIDTHS`. */
  graph(layer: number, bandwidth: number): Graph {
    return kept(this.#graphs, `${layer} ${bandwidth}`, () => {
      const { d2, median } = this.layer(layer)
      const epsilon = median * BANDWIDTHS[bandwidth]!
      const w = gaussian(d2, epsilon)
      let pairs: Eigen | null = null
      return {
        epsilon,
        w,
        p: stepChances(w),
        longRun: stationary(w),
        get eigen() {
          return (pairs ??= eigen(symmetricConjugate(w)))
        },
      }
    })
  }
}

function kept<K, V>(known: Map<K, V>, key: K, make: () => V): V {
  const found = known.get(key)
  if (found) return found
  const made = make()
  known.set(key, made)
  return made
}

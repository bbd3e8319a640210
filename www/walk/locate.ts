/**
 * Where a text of one's own lies in a layer. The engine answers with maps of its activations and keeps the activations
 * to itself, so the walk asks for a map from which they can be computed, and computes them:
 *
 * 1. With a bandwidth `epsilon` that is far larger than all squared distances `d2`, the diffusion map at time 1/2 is
 *    classical scaling (Torgerson 1952): `|Psi(i) - Psi(j)|^2 = 2 d2_ij / epsilon`, up to a share of `d2 / epsilon`.
 *    In as many dimensions as the stream has numbers, that is the distance of every pair of texts.
 * 2. A point whose distances to the stored texts are known is the solution of linear equations, one a stored text:
 *    `d2_i = |x|^2 - 2 h_i . x + |h_i|^2`, with `x` and `|x|^2` unknown.
 */
import { CALIBRATION } from '../app/defaults'
import type { CalibrationOptions } from '../engine/protocol/similarity'
import { dot, square, type Square } from './square'

/** A million times the squared distances of the demo's texts: the share that step 1 neglects is below 1e-4. */
export const WIDE = 1e7

/** So many stored texts place another one: more than the stream has numbers, and so few that the engine is quick. */
export const PLACED_BY = 94

/** What is asked of the engine: activations as they are, of the text's sequences, in a map of all their distances. */
export function scalingOf(text: string, sequences: number, width: number): CalibrationOptions {
  return {
    ...CALIBRATION,
    text,
    text_name: 'your sentence and the stories',
    samples: sequences,
    dims: width,
    time: 0.5,
    normalise: 'none',
    bandwidth: WIDE,
    // The quickest: how alike layers are is not asked here.
    metric: 'cosine',
  }
}

/** The squared distance of two texts, by their coordinates in such a map. */
export function scaledDistance(one: ArrayLike<number>, other: ArrayLike<number>, epsilon = WIDE): number {
  let sum = 0
  for (let c = 0; c < one.length; c++) sum += (one[c]! - other[c]!) ** 2
  return (epsilon / 2) * sum
}

/** The point that has these squared distances to known ones, by least squares: `points[i]` has distance `d2[i]`. */
export function located(points: readonly Float64Array[], d2: readonly number[]): Float64Array {
  const width = points[0]!.length
  const rows = points.map(point => Float64Array.of(...point.map(value => -2 * value), 1))
  const right = points.map((point, i) => d2[i]! - dot(point, point))
  const column = (c: number) => rows.map(row => row[c]!)
  const columns = Array.from({ length: width + 1 }, (_, c) => column(c))
  const gram = square(width + 1, (a, b) => dot(columns[a]!, columns[b]!))
  return solved(
    gram,
    columns.map(values => dot(values, right)),
  ).slice(0, width)
}

/** Solves `A x = b` for a symmetric positive definite `A`, by its Cholesky factor. */
export function solved(a: Square, b: readonly number[]): Float64Array {
  const { n } = a
  const lower = square(n, () => 0)
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let left = a.data[i * n + j]!
      for (let k = 0; k < j; k++) left -= lower.data[i * n + k]! * lower.data[j * n + k]!
      lower.data[i * n + j] = i === j ? Math.sqrt(left) : left / lower.data[j * n + j]!
    }
  }
  const x = Float64Array.from(b)
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) x[i]! -= lower.data[i * n + k]! * x[k]!
    x[i]! /= lower.data[i * n + i]!
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) x[i]! -= lower.data[k * n + i]! * x[k]!
    x[i]! /= lower.data[i * n + i]!
  }
  return x
}

/** How far the distances of a map are from those of the stored points, at most, as a share of the largest of these. */
export function strayOf(map: readonly ArrayLike<number>[], points: readonly Float64Array[]): number {
  let [stray, largest] = [0, 0]
  for (let i = 0; i < points.length; i++) {
    for (let j = 0; j < i; j++) {
      const known = scaledDistance(points[i]!, points[j]!, 2)
      largest = Math.max(largest, known)
      stray = Math.max(stray, Math.abs(scaledDistance(map[i]!, map[j]!) - known))
    }
  }
  return stray / largest
}

import { entryOf, rowOf, rowSums, square, sum, type Square } from './square'

/** The Gaussian kernel `W_ij = exp(-d2_ij / epsilon)`. */
export function gaussian(d2: Square, epsilon: number): Square {
  return { n: d2.n, data: d2.data.map(value => Math.exp(-value / epsilon)) }
}

/** `P = D^-1 W`: the chance of stepping from the text of a row to that of a column. Rows sum to 1. */
export function stepChances(w: Square): Square {
  const degrees = rowSums(w)
  return square(w.n, (i, j) => entryOf(w, i, j) / degrees[i]!)
}

/** `A = D^-1/2 W D^-1/2`: symmetric, with the eigenvalues of `P`. */
export function symmetricConjugate(w: Square): Square {
  const roots = rowSums(w).map(Math.sqrt)
  return square(w.n, (i, j) => entryOf(w, i, j) / (roots[i]! * roots[j]!))
}

/** The share of its time that a long walk spends at each text: `D_ii / sum D`. */
export function stationary(w: Square): Float64Array {
  const degrees = rowSums(w)
  const total = sum(degrees)
  return degrees.map(degree => degree / total)
}

/** Where a walk may be after one more step: `p P`. */
export function spread(p: Square, chances: ArrayLike<number>): Float64Array {
  const next = new Float64Array(p.n)
  for (let i = 0; i < p.n; i++) {
    const row = rowOf(p, i)
    for (let j = 0; j < p.n; j++) next[j]! += chances[i]! * row[j]!
  }
  return next
}

/** The text that a number in [0, 1) picks from a row of chances. */
export function picked(chances: ArrayLike<number>, number: number): number {
  let left = number * sum(chances)
  for (let j = 0; j < chances.length; j++) {
    left -= chances[j]!
    if (left < 0) return j
  }
  return chances.length - 1
}

/** Half the sum of the differences of two distributions: 0 for equal ones, 1 for those that share nothing. */
export function variation(p: ArrayLike<number>, q: ArrayLike<number>): number {
  let total = 0
  for (let i = 0; i < p.length; i++) total += Math.abs(p[i]! - q[i]!)
  return total / 2
}

/** Numbers in [0, 1) that are the same for the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

import { dot, square, type Square } from './square'

/** A point divided by the root mean square of its coordinates, as the next layer sees it. */
export function normalised(point: ArrayLike<number>): Float64Array {
  const rms = Math.sqrt(dot(point, point) / point.length)
  return Float64Array.from(point, value => value / rms)
}

/** What each coordinate adds to the squared distance of two points. */
export function squaredDifferences(a: ArrayLike<number>, b: ArrayLike<number>): Float64Array {
  return Float64Array.from(a, (value, c) => (value - b[c]!) ** 2)
}

/** `d2_ij = |h_i - h_j|^2`. */
export function squaredDistances(points: readonly Float64Array[]): Square {
  const n = points.length
  const d2 = square(n, () => 0)
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < i; j++) {
      let total = 0
      const [a, b] = [points[i]!, points[j]!]
      for (let c = 0; c < a.length; c++) total += (a[c]! - b[c]!) ** 2
      d2.data[i * n + j] = d2.data[j * n + i] = total
    }
  }
  return d2
}

/** `d2_ij` of all pairs `i < j`, ascending. */
export function pairsOf({ n, data }: Square): Float64Array {
  const pairs = new Float64Array((n * (n - 1)) / 2)
  let at = 0
  for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) pairs[at++] = data[i * n + j]!
  return pairs.sort()
}

/** The middle of ascending values, or the mean of the two in the middle: the default bandwidth of a layer's pairs. */
export function medianOf(ascending: ArrayLike<number>): number {
  const middle = ascending.length >> 1
  return ascending.length % 2 ? ascending[middle]! : (ascending[middle - 1]! + ascending[middle]!) / 2
}

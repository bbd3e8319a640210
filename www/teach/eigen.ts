import { square, type Square } from './square'

export interface Eigen {
  /** Descending. */
  values: Float64Array
  /** Unit vectors in the same order. */
  vectors: Float64Array[]
}

/** Off-diagonal entries below this share of the largest diagonal one are rounding. */
const TOLERANCE = 1e-15
const SWEEPS = 30

/**
 * All eigenpairs of a symmetric matrix by Jacobi's rotations, row after row (Golub and Van Loan, 8.5).
 *
 * Each rotation makes one entry beside the diagonal zero, and undoes a little of what others did; the sum of the
 * squares beside the diagonal falls nevertheless, in the end quadratically. Slow, exact, and short.
 */
export function eigen(matrix: Square): Eigen {
  const { n } = matrix
  const a = matrix.data.slice()
  /** Rows are the vectors, so that a rotation walks along memory. */
  const v = square(n, (i, j) => (i === j ? 1 : 0)).data
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const small = TOLERANCE * largestOnDiagonal(a, n)
    let rotated = false
    for (let p = 0; p < n - 1; p++) {
      for (let q = p + 1; q < n; q++) {
        if (Math.abs(a[p * n + q]!) <= small) continue
        rotated = true
        rotate(a, v, n, p, q)
      }
    }
    if (!rotated) break
  }
  const order = Array.from({ length: n }, (_, i) => i).sort((i, j) => a[j * n + j]! - a[i * n + i]!)
  return { values: Float64Array.from(order, i => a[i * n + i]!), vectors: order.map(i => v.slice(i * n, (i + 1) * n)) }
}

/** `J^T A J` and `J^T V` with the rotation of the plane (p, q) that makes `a_pq` zero. */
function rotate(a: Float64Array, v: Float64Array, n: number, p: number, q: number) {
  const [app, aqq, apq] = [a[p * n + p]!, a[q * n + q]!, a[p * n + q]!]
  const theta = (aqq - app) / (2 * apq)
  const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1))
  const c = 1 / Math.sqrt(t * t + 1)
  const s = t * c
  for (let k = 0; k < n; k++) {
    const [vp, vq] = [v[p * n + k]!, v[q * n + k]!]
    v[p * n + k] = c * vp - s * vq
    v[q * n + k] = s * vp + c * vq
    const [x, y] = [a[p * n + k]!, a[q * n + k]!]
    a[p * n + k] = c * x - s * y
    a[q * n + k] = s * x + c * y
  }
  // The columns are the rows again, but for the four entries where rows and columns cross.
  for (let k = 0; k < n; k++) {
    a[k * n + p] = a[p * n + k]!
    a[k * n + q] = a[q * n + k]!
  }
  a[p * n + p] = app - t * apq
  a[q * n + q] = aqq + t * apq
  a[p * n + q] = a[q * n + p] = 0
}

function largestOnDiagonal(a: Float64Array, n: number): number {
  let largest = 0
  for (let i = 0; i < n; i++) largest = Math.max(largest, Math.abs(a[i * n + i]!))
  return largest
}

import type { Square } from './square'

export interface Eigen {
  /** Descending. */
  values: Float64Array
  /** Unit vectors in the same order. */
  vectors: Float64Array[]
}

/**
 * All eigenpairs of a symmetric matrix: Householder's reflections make it tridiagonal, implicit QL makes that
 * diagonal (Golub and Van Loan, 8.3; EISPACK's tred2 and tql2). Some `9 n^3` operations, a tenth of Jacobi's
 * rotations, so that a slider can be dragged.
 */
export function eigen({ n, data }: Square): Eigen {
  const tridiagonal: Tridiagonal = { n, z: data.slice(), d: new Float64Array(n), e: new Float64Array(n) }
  reflect(tridiagonal)
  accumulate(tridiagonal)
  diagonalise(tridiagonal)
  const { z, d } = tridiagonal
  const order = Array.from({ length: n }, (_, i) => i).sort((i, j) => d[j]! - d[i]!)
  return { values: Float64Array.from(order, i => d[i]!), vectors: order.map(i => z.slice(i * n, (i + 1) * n)) }
}

/** Rows of `z` are the columns of the textbooks' matrix, so that all long loops walk along memory. */
interface Tridiagonal {
  n: number
  z: Float64Array
  /** The diagonal, and what is beside it. */
  d: Float64Array
  e: Float64Array
}

/** `n - 2` reflections from the last row up; each vector stays in `z`, its squared length in `d`. */
function reflect({ n, z, d, e }: Tridiagonal) {
  for (let j = 0; j < n; j++) d[j] = z[j * n + n - 1]!
  for (let i = n - 1; i > 0; i--) {
    let scale = 0
    for (let k = 0; k < i; k++) scale += Math.abs(d[k]!)
    let h = 0
    if (scale === 0) {
      e[i] = d[i - 1]!
      for (let j = 0; j < i; j++) {
        d[j] = z[j * n + i - 1]!
        z[j * n + i] = z[i * n + j] = 0
      }
    } else {
      for (let k = 0; k < i; k++) h += (d[k]! /= scale) ** 2
      const f = d[i - 1]!
      const g = f > 0 ? -Math.sqrt(h) : Math.sqrt(h)
      e[i] = scale * g
      h -= f * g
      d[i - 1] = f - g
      applyReflection(z, d, e, n, i, h)
    }
    d[i] = h
  }
}

/** Applies the reflection of the vector in `d` from both sides to the rows above `i`. */
function applyReflection(z: Float64Array, d: Float64Array, e: Float64Array, n: number, i: number, h: number) {
  e.fill(0, 0, i)
  for (let j = 0; j < i; j++) {
    const f = d[j]!
    z[i * n + j] = f
    let g = e[j]! + z[j * n + j]! * f
    for (let k = j + 1; k < i; k++) {
      g += z[j * n + k]! * d[k]!
      e[k]! += z[j * n + k]! * f
    }
    e[j] = g
  }
  let f = 0
  for (let j = 0; j < i; j++) f += (e[j]! /= h) * d[j]!
  const half = f / (2 * h)
  for (let j = 0; j < i; j++) e[j]! -= half * d[j]!
  for (let j = 0; j < i; j++) {
    const [dj, ej] = [d[j]!, e[j]!]
    for (let k = j; k < i; k++) z[j * n + k]! -= dj * e[k]! + ej * d[k]!
    d[j] = z[j * n + i - 1]!
    z[j * n + i] = 0
  }
}

/** Multiplies the reflections out, into the vectors of the tridiagonal basis. */
function accumulate({ n, z, d, e }: Tridiagonal) {
  for (let i = 0; i < n - 1; i++) {
    const next = (i + 1) * n
    z[i * n + n - 1] = z[i * n + i]!
    z[i * n + i] = 1
    const h = d[i + 1]!
    if (h !== 0) {
      for (let k = 0; k <= i; k++) d[k] = z[next + k]! / h
      for (let j = 0; j <= i; j++) {
        let g = 0
        for (let k = 0; k <= i; k++) g += z[next + k]! * z[j * n + k]!
        for (let k = 0; k <= i; k++) z[j * n + k]! -= g * d[k]!
      }
    }
    z.fill(0, next, next + i + 1)
  }
  for (let j = 0; j < n; j++) {
    d[j] = z[j * n + n - 1]!
    z[j * n + n - 1] = 0
  }
  z[n * n - 1] = 1
  e[0] = 0
}

/** Implicitly shifted QL steps until nothing is left beside the diagonal. */
function diagonalise({ n, z, d, e }: Tridiagonal) {
  e.copyWithin(0, 1)
  e[n - 1] = 0
  let shift = 0
  let size = 0
  for (let l = 0; l < n; l++) {
    size = Math.max(size, Math.abs(d[l]!) + Math.abs(e[l]!))
    const small = Number.EPSILON * size
    let m = l
    while (m < n - 1 && Math.abs(e[m]!) > small) m++
    if (m > l)
      do shift += step(z, d, e, n, l, m)
      while (Math.abs(e[l]!) > small)
    d[l]! += shift
    e[l] = 0
  }
}

/** One step on the rows `l` to `m`; gives the shift that was taken from the diagonal from `l` on. */
function step(z: Float64Array, d: Float64Array, e: Float64Array, n: number, l: number, m: number): number {
  const before = d[l]!
  const slope = (d[l + 1]! - before) / (2 * e[l]!)
  const root = slope + (slope < 0 ? -1 : 1) * Math.hypot(slope, 1)
  d[l] = e[l]! / root
  d[l + 1] = e[l]! * root
  const [below, eBelow, h] = [d[l + 1]!, e[l + 1]!, before - d[l]!]
  for (let i = l + 2; i < n; i++) d[i]! -= h
  let p = d[m]!
  let [c, c2, c3, s, s2] = [1, 1, 1, 0, 0]
  for (let i = m - 1; i >= l; i--) {
    c3 = c2
    c2 = c
    s2 = s
    const g = c * e[i]!
    const q = c * p
    const r = Math.hypot(p, e[i]!)
    e[i + 1] = s * r
    s = e[i]! / r
    c = p / r
    p = c * d[i]! - s * g
    d[i + 1] = q + s * (c * g + s * d[i]!)
    const [row, next] = [i * n, (i + 1) * n]
    for (let k = 0; k < n; k++) {
      const value = z[next + k]!
      z[next + k] = s * z[row + k]! + c * value
      z[row + k] = c * z[row + k]! - s * value
    }
  }
  p = (-s * s2 * c3 * eBelow * e[l]!) / below
  e[l] = s * p
  d[l] = c * p
  return h
}

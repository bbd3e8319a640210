import type { Eigen } from './eigen'

/** A column of numbers, one a text. */
export type Numbers = ArrayLike<number>

/** `psi_k = U_k / U_0`, its largest entry positive: the pattern that one step only shrinks, by `lambda_k`. */
export function pattern({ vectors }: Eigen, k: number): Float64Array {
  const u0 = vectors[0]!
  const psi = vectors[k]!.map((value, i) => value / u0[i]!)
  let largest = 0
  for (const value of psi) if (Math.abs(value) > Math.abs(largest)) largest = value
  return largest < 0 ? psi.map(value => -value) : psi
}

/** `Psi_t = [lambda_1^t psi_1, lambda_2^t psi_2]`, as two columns. */
export function diffusionMap(eigen: Eigen, time: number): [Float64Array, Float64Array] {
  const column = (k: number) => {
    const shrunk = Math.max(0, eigen.values[k]!) ** time
    return pattern(eigen, k).map(value => shrunk * value)
  }
  return [column(1), column(2)]
}

/** The share of the squared distances between walks of `time` steps that the first `dims` coordinates hold. */
export function shareHeld({ values }: Eigen, time: number, dims = 2): number {
  const weights = Array.from(values.subarray(1), value => Math.max(0, value) ** (2 * time))
  const total = weights.reduce((a, b) => a + b, 0)
  return weights.slice(0, dims).reduce((a, b) => a + b, 0) / total
}

/**
 * Turns or mirrors a map of two columns onto another, without stretching: `min |E R - F|` over orthogonal `R`
 * (Schönemann 1966), in closed form for two dimensions.
 */
export function aligned(
  moving: readonly [Numbers, Numbers],
  target: readonly [Numbers, Numbers],
): [Float64Array, Float64Array] {
  const cross = (i: 0 | 1, j: 0 | 1) => {
    let total = 0
    for (let p = 0; p < moving[i].length; p++) total += moving[i][p]! * target[j][p]!
    return total
  }
  const [a, b, c, d] = [cross(0, 0), cross(0, 1), cross(1, 0), cross(1, 1)]
  const turn = Math.hypot(a + d, c - b)
  const mirror = Math.hypot(a - d, b + c)
  const turns = turn >= mirror
  const size = Math.max(turn, mirror) || 1
  const [cos, sin] = turns ? [(a + d) / size, (c - b) / size] : [(a - d) / size, (b + c) / size]
  const sign = turns ? 1 : -1
  const combine = (x: number, y: number) => Float64Array.from(moving[0], (value, p) => x * value + y * moving[1][p]!)
  return [combine(cos, sin), combine(-sign * sin, sign * cos)]
}

import type { Numbers } from './map'

/** What one text adds to the mutual information of two maps. */
export interface Local {
  /** Distance to the k-th neighbour where both maps are looked at together. */
  radius: number
  /** Other texts closer than that in each map alone. */
  left: number
  right: number
  /** `psi(N) + psi(k) - psi(left + 1) - psi(right + 1)`, in nats; the mean over all texts is the estimate. */
  nats: number
}

export type PlaneMap = readonly [Numbers, Numbers]

/** Each column divided by its population standard deviation. */
export function standardised(map: PlaneMap): [Float64Array, Float64Array] {
  const scale = (column: Numbers) => {
    const values = Float64Array.from(column)
    const mean = values.reduce((a, b) => a + b, 0) / values.length
    const deviation = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length)
    return values.map(value => value / deviation)
  }
  return [scale(map[0]), scale(map[1])]
}

/** The larger of the two differences: neighbourhoods are squares. */
export function apart(map: PlaneMap, i: number, j: number): number {
  return Math.max(Math.abs(map[0][i]! - map[0][j]!), Math.abs(map[1][i]! - map[1][j]!))
}

/**
 * Mutual information of two standardised maps, text by text: the first estimator of Kraskov, Stögbauer and
 * Grassberger (Phys. Rev. E 69, 066138, 2004) with maximum norms. Its mean may be slightly negative.
 */
export function information(left: PlaneMap, right: PlaneMap, k: number): Local[] {
  const n = left[0].length
  const psi = digammas(n)
  const joint = new Float64Array(n)
  return Array.from({ length: n }, (_, i) => {
    for (let j = 0; j < n; j++) joint[j] = j === i ? Infinity : Math.max(apart(left, i, j), apart(right, i, j))
    const radius = joint.slice().sort()[k - 1]!
    // Where more than k texts coincide, the count takes the limit of small radii.
    const within = (map: PlaneMap) => countWithin(map, i, Math.max(radius, Number.MIN_VALUE))
    const [nLeft, nRight] = [within(left), within(right)]
    return { radius, left: nLeft, right: nRight, nats: psi[n]! + psi[k]! - psi[nLeft + 1]! - psi[nRight + 1]! }
  })
}

export function meanNats(locals: readonly Local[]): number {
  return locals.reduce((total, { nats }) => total + nats, 0) / locals.length
}

/** `S_lm`, 0 to 1: the information over what the estimator gives for each map with itself. */
export function similarityOf(shared: number, ownLeft: number, ownRight: number): number {
  return Math.min(1, Math.max(0, shared) / Math.sqrt(ownLeft * ownRight))
}

function countWithin(map: PlaneMap, i: number, radius: number): number {
  let count = 0
  for (let j = 0; j < map[0].length; j++) if (j !== i && apart(map, i, j) < radius) count++
  return count
}

/** `psi(m)` at index `m`, 1 to `n`: `psi(1) = -gamma`, `psi(m + 1) = psi(m) + 1 / m`. */
export function digammas(n: number): Float64Array {
  const psi = new Float64Array(n + 1).fill(NaN)
  psi[1] = -0.5772156649015329
  for (let m = 1; m < n; m++) psi[m + 1] = psi[m]! + 1 / m
  return psi
}

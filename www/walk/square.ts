/** A square matrix, row after row. */
export interface Square {
  n: number
  data: Float64Array
}

export function square(n: number, entry: (row: number, col: number) => number): Square {
  const data = new Float64Array(n * n)
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) data[i * n + j] = entry(i, j)
  return { n, data }
}

export function entryOf({ n, data }: Square, row: number, col: number): number {
  return data[row * n + col]!
}

export function rowOf({ n, data }: Square, row: number): Float64Array {
  return data.subarray(row * n, (row + 1) * n)
}

export function rowSums(matrix: Square): Float64Array {
  return Float64Array.from({ length: matrix.n }, (_, i) => sum(rowOf(matrix, i)))
}

export function times(matrix: Square, vector: ArrayLike<number>): Float64Array {
  return Float64Array.from({ length: matrix.n }, (_, i) => dot(rowOf(matrix, i), vector))
}

export function sum(values: ArrayLike<number>): number {
  let total = 0
  for (let i = 0; i < values.length; i++) total += values[i]!
  return total
}

export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let total = 0
  for (let i = 0; i < a.length; i++) total += a[i]! * b[i]!
  return total
}

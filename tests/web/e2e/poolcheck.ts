/** Runs in a worker of an isolated page: the pool with the compiled kernel, against the sums in f64 and against one thread. */
import { shared, sharedFused } from '../../../www/engine/pkg/fused.js'
import { startPool } from '../../../www/engine/pool'

export interface Checked {
  threads: number
  /** Of each product: the largest difference from the sums in f64, and how many numbers beside it were changed. */
  products: { error: number; changed: number }[]
}

const SHAPES = [
  { rows: 5, columns: 7, depth: 3, turned: false, lower: -1 },
  { rows: 130, columns: 301, depth: 800, turned: false, lower: -1 },
  { rows: 99, columns: 64, depth: 257, turned: true, lower: -1 },
  { rows: 200, columns: 120, depth: 64, turned: true, lower: 40 },
]

const value = (i: number, k: number) => ((i * 31 + k * 57) % 101) / 50 - 1

async function check(kernel: Uint8Array): Promise<Checked | string> {
  const engine = new WebAssembly.Memory({ initial: 400 })
  const pool = await startPool(engine, kernel)
  if ('alone' in pool) return pool.alone
  const products = SHAPES.map(({ rows, columns, depth, turned, lower }) => {
    const numbers = new Float32Array(engine.buffer)
    // The right operand and the sums are part of wider matrices.
    const wide = columns + 9
    const [left, right, y] = [64, 64 + rows * depth, 64 + (rows + wide) * depth]
    const place = (i: number, k: number, of: number) => (turned ? k * of + i : i * depth + k)
    for (let k = 0; k < depth; k++) {
      for (let i = 0; i < rows; i++) numbers[left + place(i, k, rows)] = value(i, k)
      for (let j = 0; j < columns; j++) numbers[right + place(j, k, wide)] = value(j + 5, k)
    }
    numbers.fill(1, y, y + rows * wide)
    const stretch = Math.ceil(depth / Math.ceil(depth / 300))
    const [rowOf, columnOf] = turned ? [(_: number) => 1, (of: number) => of] : [(_: number) => depth, () => 1]
    const begun =
      pool.left(4 * left, rows * depth, rows, rowOf(rows), columnOf(rows), depth, stretch) &&
      pool.begin(4 * right, columns, rowOf(wide), columnOf(wide), 4 * y, wide, lower)
    if (!begun || !pool.end(4 * y, wide)) return { error: Infinity, changed: Infinity }
    let [error, changed] = [0, 0]
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < wide; j++) {
        const is = numbers[y + i * wide + j]!
        let exact = 1
        for (let k = 0; k < depth; k++) exact += value(i, k) * value(j + 5, k)
        if (j >= columns) changed += Number(is !== 1)
        else if (lower < 0 || lower + j <= i || is !== 1) error = Math.max(error, Math.abs(is - exact))
      }
    }
    return { error, changed }
  })
  const checked: Checked = { threads: pool.threads, products }
  pool.stop()
  return checked
}

self.onmessage = async () => {
  try {
    self.postMessage([await check(shared), await check(sharedFused)])
  } catch (thrown) {
    self.postMessage([String(thrown), String(thrown)])
  }
}

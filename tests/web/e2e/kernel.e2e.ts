import { existsSync, readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Browser } from 'playwright-core'
import { fusedKernel } from '../../../www/engine/fused.js'
import { findBrowser, startBrowser } from './harness'

const KERNEL = 'www/engine/pkg/fused.js'
const missing = [
  !findBrowser() && 'no Chromium was found (set CHROMIUM to its path)',
  !existsSync(KERNEL) && 'the engine has not been compiled',
].filter(Boolean)
if (missing.length) console.warn(`SKIPPED: the fused kernel in a browser, because ${missing.join(' and ')}`)

const [LEFT, RIGHT] = [3, 12]

interface Shape {
  depth: number
  /** Rows of the left side, and of the right one. */
  rows: number
  width: number
  /** Numbers in a row of `y` beside those. */
  beside: number
  lower: number
}

/** Runs in the browser: the largest difference from sums in f64, and how many numbers beside them were changed. */
async function compare({
  code,
  base64,
  shape,
  panels: [l, r],
}: {
  code: string
  base64: string
  shape: Shape
  panels: [number, number]
}) {
  const { depth, rows, width, beside, lower } = shape
  const memory = new WebAssembly.Memory({ initial: 32 })
  const fuse = new Function(`return ${code}`)() as typeof fusedKernel
  const kernel = await fuse(
    Uint8Array.from(atob(base64), c => c.charCodeAt(0)),
    memory,
  )
  const addProducts = kernel!.addProducts as (...numbers: number[]) => void
  const numbers = new Float32Array(memory.buffer)
  const [nLeft, nRight, columns] = [Math.ceil(rows / l) * depth, Math.ceil(width / r) * depth, width + beside]
  const [left, right, y] = [1024, 1024 + nLeft * l, 1024 + nLeft * l + nRight * r]
  // Panel after panel, column by column; zeros for rows that are missing.
  const at = (start: number, size: number, row: number, k: number) =>
    start + (Math.floor(row / size) * depth + k) * size + (row % size)
  const value = (row: number, k: number) => ((row * 31 + k * 57) % 101) / 50 - 1
  for (let k = 0; k < depth; k++) {
    for (let i = 0; i < rows; i++) numbers[at(left, l, i, k)] = value(i, k)
    for (let j = 0; j < width; j++) numbers[at(right, r, j, k)] = value(j + 7, k)
  }
  const n = (rows - 1) * columns + width
  numbers.fill(1, y, y + n + columns)
  addProducts(4 * left, nLeft, 4 * right, nRight, depth, 4 * y, n, columns, width, lower)
  let [error, changed] = [0, 0]
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      const is = new Float32Array(memory.buffer)[y + i * columns + j]!
      let exact = 1
      for (let k = 0; k < depth; k++) exact += value(i, k) * value(j + 7, k)
      const above = lower >= 0 && lower + j > i
      if (j >= width) changed += Number(is !== 1)
      else if (!above || is !== 1) error = Math.max(error, Math.abs(is - exact))
    }
  }
  const last = new Float32Array(memory.buffer).subarray(y + n, y + n + columns)
  return {
    error,
    changed: changed + last.filter(x => x !== 1).length,
    left: numbers.slice(0, 1024).filter(x => x !== 0).length,
  }
}

describe.skipIf(missing.length > 0)('the kernel with fused multiply-adds, in a browser that has them', () => {
  let browser: Browser
  const [, base64] = /fused = bytes\('([^']+)'\)/.exec(existsSync(KERNEL) ? readFileSync(KERNEL, 'utf8') : '') ?? []
  beforeAll(async () => {
    browser = await startBrowser()
  })
  afterAll(() => browser?.close())

  test.each<Shape>([
    { depth: 1, rows: 1, width: 1, beside: 0, lower: -1 },
    { depth: 300, rows: 9, width: 24, beside: 0, lower: -1 },
    { depth: 77, rows: 10, width: 29, beside: 5, lower: -1 },
    { depth: 64, rows: 40, width: 40, beside: 0, lower: 0 },
    { depth: 64, rows: 40, width: 16, beside: 24, lower: 24 },
  ])('adds what the sums in f64 are, and touches nothing else: %o', async shape => {
    const page = await browser.newPage()
    const { error, changed, left } = await page.evaluate(compare, {
      code: String(fusedKernel),
      base64: base64!,
      shape,
      panels: [LEFT, RIGHT] as [number, number],
    })
    expect(error).toBeLessThan(1e-4)
    expect([changed, left]).toEqual([0, 0])
    await page.close()
  })

  test('a browser without them gets none, and its memory stays as it was', async () => {
    const memory = new WebAssembly.Memory({ initial: 1 })
    expect(await fusedKernel(new Uint8Array([0, 97, 115, 109, 9, 9, 9, 9]), memory)).toBeNull()
    expect(memory.buffer.byteLength).toBe(65_536)
  })
})

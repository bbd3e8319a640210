import { describe, expect, test } from 'vitest'
import { inSharedMemory } from '../../scripts/wasmparts.mjs'
import {
  beginPacking,
  beginProduct,
  controlOf,
  operandsAt,
  stackEnd,
  work,
  Word,
  type Kernel,
  type Panels,
} from '../../www/engine/arena'

const [LEFT, RIGHT] = [3, 12]

/** The kernel by its definition, with numbers in f64 where it sums. */
function naiveKernel(memory: WebAssembly.Memory): Kernel {
  const numbers = () => new Float32Array(memory.buffer)
  return {
    leftRows: () => LEFT,
    rightRows: () => RIGHT,
    pack(values, n, rows, row, column, depth, lanes, panels, nPanels) {
      const all = numbers()
      for (let place = 0; place < nPanels; place++) {
        const [panel, k, lane] = [Math.floor(place / (depth * lanes)), Math.floor(place / lanes) % depth, place % lanes]
        const [own, from] = [panel * lanes + lane, (panel * lanes + lane) * row + k * column]
        all[panels / 4 + place] = own < rows && from < n ? all[values / 4 + from]! : 0
      }
    },
    addProducts(left, nLeft, right, nRight, depth, y, nY, nColumns, width, lower) {
      const all = numbers()
      for (let i = 0; i < (nLeft / depth) * LEFT; i++) {
        for (let j = 0; j < width; j++) {
          const [panelRow, panelColumn] = [Math.floor(i / LEFT), Math.floor(j / RIGHT)]
          if (i * nColumns + j >= nY || (lower >= 0 && lower + panelColumn * RIGHT >= (panelRow + 1) * LEFT)) continue
          let sum = 0
          for (let k = 0; k < depth; k++)
            sum +=
              all[left / 4 + (panelRow * depth + k) * LEFT + (i % LEFT)]! *
              all[right / 4 + (panelColumn * depth + k) * RIGHT + (j % RIGHT)]!
          all[y / 4 + i * nColumns + j]! += sum
        }
      }
      expect(nRight / depth).toBe(Math.ceil(width / RIGHT))
    },
  }
}

const value = (i: number, k: number) => ((i * 31 + k * 57) % 101) / 50 - 1

describe('work that threads share', () => {
  test.each([
    { rows: 1, columns: 1, depth: 1, stretch: 1, turned: false, lower: -1 },
    { rows: 100, columns: 130, depth: 20, stretch: 8, turned: false, lower: -1 },
    { rows: 100, columns: 130, depth: 20, stretch: 20, turned: true, lower: -1 },
    { rows: 120, columns: 110, depth: 12, stretch: 7, turned: true, lower: 0 },
    { rows: 200, columns: 40, depth: 12, stretch: 7, turned: true, lower: 120 },
  ])('is the product, whoever takes which item: %o', ({ rows, columns, depth, stretch, turned, lower }) => {
    const memory = new WebAssembly.Memory({ initial: 32, maximum: 32, shared: true })
    const [control, kernel] = [controlOf(memory), naiveKernel(memory)]
    const numbers = new Float32Array(memory.buffer)
    const panelsOf = (at: number, of: number, lanes: number): Panels => ({ at, count: Math.ceil(of / lanes), lanes })
    const left = panelsOf(operandsAt(2), rows, LEFT)
    const right = panelsOf(left.at + 4 * left.count * LEFT * depth, columns, RIGHT)
    const values = right.at + 4 * right.count * RIGHT * depth
    const y = values + 4 * Math.max(rows, columns) * depth
    const whole = () => {
      work(control, kernel)
      expect(Atomics.load(control, Word.done)).toBe(Atomics.load(control, Word.total))
      // Who comes late finds nothing, and does nothing.
      work(control, kernel)
      expect(Atomics.load(control, Word.done)).toBe(Atomics.load(control, Word.total))
    }
    for (const [to, count] of [
      [left, rows],
      [right, columns],
    ] as const) {
      const [row, column] = turned ? [1, count] : [depth, 1]
      for (let i = 0; i < count; i++)
        for (let k = 0; k < depth; k++) numbers[values / 4 + i * row + k * column] = value(i, k)
      beginPacking(control, { values, length: count * depth, rows: count, row, column, depth, stretch, to })
      whole()
    }
    numbers.fill(1, y / 4, y / 4 + rows * columns)
    numbers[y / 4 + rows * columns] = 42
    beginProduct(control, { left, right, depth, stretch, y, rows, columns, lower })
    whole()
    let error = 0
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) {
        let exact = 1
        for (let k = 0; k < depth; k++) exact += value(i, k) * value(j, k)
        const is = numbers[y / 4 + i * columns + j]!
        if (lower < 0 || lower + j <= i || is !== 1) error = Math.max(error, Math.abs(is - exact))
      }
    }
    expect(error).toBeLessThan(1e-3)
    expect(numbers[y / 4 + rows * columns]).toBe(42)
  })

  test('stacks lie apart, behind the control words and before the operands', () => {
    expect([stackEnd(0), stackEnd(1) - stackEnd(0), operandsAt(3)]).toEqual([4096 + 65_536, 65_536, stackEnd(2)])
    expect(operandsAt(8) % 16).toBe(0)
  })
})

describe('a module in memory that threads share', () => {
  // (module (import "env" "memory" (memory 17)) (func (export "f") (result i32) i32.const 7))
  const module = Uint8Array.from([
    0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 127, 2, 15, 1, 3, 101, 110, 118, 6, 109, 101, 109, 111, 114, 121, 2,
    0, 17, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 6, 1, 4, 0, 65, 7, 11,
  ])

  test('is the same but for the import', async () => {
    const changed = inSharedMemory(module)
    const memory = new WebAssembly.Memory({ initial: 17, maximum: 20, shared: true })
    const { instance } = await WebAssembly.instantiate(changed as BufferSource, { env: { memory } })
    expect((instance.exports.f as () => number)()).toBe(7)
    await expect(WebAssembly.instantiate(module, { env: { memory } })).rejects.toThrow()
    await expect(
      WebAssembly.instantiate(changed as BufferSource, {
        env: { memory: new WebAssembly.Memory({ initial: 17, maximum: 20 }) },
      }),
    ).rejects.toThrow()
  })

  test('is refused where more than a memory is imported, or none', () => {
    expect(() => inSharedMemory(module.slice(0, 15))).toThrow('imports nothing')
    expect(() => inSharedMemory(Uint8Array.from(module, (byte, at) => (at === 17 ? 2 : byte)))).toThrow(
      'does not import a memory',
    )
  })
})

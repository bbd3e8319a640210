import { describe, expect, test } from 'vitest'
import { controlOf, operandsAt, Word, type Kernel } from '../../www/engine/arena'
import { Pool, startPool } from '../../www/engine/pool'

const nothing: Kernel = { leftRows: () => 3, rightRows: () => 12, pack: () => {}, addProducts: () => {} }

function pool(onPack: (control: Int32Array) => void = () => {}) {
  const memory = new WebAssembly.Memory({ initial: 8, maximum: 16, shared: true })
  const control = controlOf(memory)
  let ended = 0
  const worker = {
    terminate: () => {
      ended++
    },
  }
  const made = new Pool(
    new WebAssembly.Memory({ initial: 8 }),
    memory,
    { ...nothing, pack: () => onPack(control) },
    [worker],
    operandsAt(2),
    50,
  )
  return { pool: made, ended: () => ended }
}

describe('the pool of the engine', () => {
  test('a page that is not isolated has one thread, and is told why', async () => {
    const alone = await startPool(new WebAssembly.Memory({ initial: 1 }), new Uint8Array())
    expect(alone).toEqual({ alone: expect.stringMatching(/^the server of this page does not send the headers/) })
  })

  test('ends where a thread is lost with its item, and leaves everything to one thread', () => {
    // Somebody takes an item and never comes back.
    const { pool: lost, ended } = pool(control => Atomics.sub(control, Word.left, 1))
    expect(lost.threads).toBe(2)
    expect(lost.left(0, 600, 100, 6, 1, 6, 6)).toBe(false)
    expect([lost.threads, ended()]).toEqual([1, 1])
    expect(lost.left(0, 600, 100, 6, 1, 6, 6)).toBe(false)
    expect(lost.begin(0, 12, 6, 1, 0, 0, -1)).toBe(false)
    expect(lost.end(0, 12)).toBe(false)
  })

  test('refuses what has no room in the shared memory, and what has no left operand', () => {
    const { pool: small } = pool()
    expect(small.begin(0, 12, 6, 1, 0, 0, -1)).toBe(false)
    expect(small.end(0, 12)).toBe(false)
    expect(small.left(0, 200_000, 2000, 100, 1, 100, 100)).toBe(false)
    expect(small.left(0, 600, 100, 6, 1, 6, 6)).toBe(true)
    expect(small.begin(0, 100_000, 6, 1, 0, 0, -1)).toBe(false)
    expect(small.begin(0, 12, 6, 1, 0, 0, -1)).toBe(true)
    expect(small.end(0, 12)).toBe(true)
  })
})

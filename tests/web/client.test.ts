import { afterEach, describe, expect, test } from 'vitest'
import { EngineClient } from '../../www/engine/client'
import type { EngineEvent } from '../../www/engine/protocol/events'
import { planOptions, stored } from './stored'
import { CALIBRATION, EVALUATION, WRITE } from '../../www/app/defaults'
import { MockEngine } from './mock/engine'
import { inProcess } from './port'

const started: ReturnType<typeof inProcess>[] = []
const client = (stopWithinMs?: number) =>
  new EngineClient(() => {
    const worker = inProcess(() => new MockEngine('cpu'))
    started.push(worker)
    return worker
  }, stopWithinMs)

afterEach(() => started.splice(0).forEach(worker => worker.terminate()))

async function withDemo(engine = client()) {
  await engine.call(null, 'create', ['cpu'])
  await engine.call(null, 'openDemo', [])
  return engine
}

const quick = { ...CALIBRATION, samples: 32, tokens: 4 }

describe('calls', () => {
  test('answers are typed and events come in order', async () => {
    const engine = await withDemo()
    const events: EngineEvent[] = []
    const report = await engine.call(null, 'similarity', [quick], event => events.push(event))
    expect(report.similarity).toEqual(stored.similarity)
    const layers = events.flatMap(event => ('layer' in event ? [event.layer] : []))
    expect(layers.map(l => [l.layer, l.row.length])).toEqual(Array.from({ length: 12 }, (_, l) => [l, l + 1]))
    expect(events.filter(event => 'progress' in event)).toHaveLength(48)
  })

  test('the planted groups', async () => {
    const engine = await withDemo()
    await engine.call(null, 'similarity', [quick])
    const { plan } = await engine.call(null, 'plan', [planOptions, { ...WRITE }, { ...EVALUATION }])
    expect(plan.groups).toEqual([[0], [1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11]])
    for (const weights of plan.weights) expect(weights.reduce((a, b) => a + b)).toBeCloseTo(1, 9)
  })

  test('calls are queued: the engine is never entered twice', async () => {
    const engine = client()
    const answers = await Promise.all([
      engine.call(null, 'create', ['cpu']),
      engine.call(null, 'openDemo', []),
      engine.call(null, 'estimate', [quick]),
    ])
    expect(answers[2].sequences).toBe(32)
    expect(started).toHaveLength(1)
  })

  test('an engine error arrives with its kind and sentence', async () => {
    const engine = await withDemo()
    await expect(engine.call(null, 'plan', [planOptions, { ...WRITE }, { ...EVALUATION }])).rejects.toMatchObject({
      kind: 'usage',
      message: expect.stringMatching(/Compare the layers first/),
    })
  })
})

describe('stopping', () => {
  test('a cancelled run stops at its next event and the engine lives on', async () => {
    const engine = await withDemo()
    const controller = new AbortController()
    const run = engine.call(controller.signal, 'similarity', [CALIBRATION], event => {
      if ('layer' in event) controller.abort()
    })
    await expect(run).rejects.toMatchObject({ kind: 'cancelled' })
    expect(engine.generation).toBe(0)
    await expect(engine.call(null, 'estimate', [quick])).resolves.toMatchObject({ sequences: 32 })
  })

  test('an answer that arrives after the stop is not taken', async () => {
    const engine = await withDemo()
    const controller = new AbortController()
    const run = engine.call(controller.signal, 'openDemo', [])
    controller.abort()
    await expect(run).rejects.toMatchObject({ kind: 'cancelled' })
    expect(engine.generation).toBe(0)
  })

  test('a signal that is already aborted starts nothing', async () => {
    const engine = client()
    await expect(engine.call(AbortSignal.abort(), 'create', ['cpu'])).rejects.toMatchObject({ kind: 'cancelled' })
    expect(started).toHaveLength(0)
  })

  test('a worker that does not stop in time is ended and another takes over', async () => {
    const engine = await withDemo(client(50))
    const controller = new AbortController()
    const run = engine.call(controller.signal, 'similarity', [{ ...quick, text: 'hang', text_name: 'x' }])
    controller.abort()
    await expect(run).rejects.toMatchObject({ kind: 'cancelled' })
    expect(engine.generation).toBe(1)
    expect(started[0]!.ended).toBe(true)
    await expect(engine.call(null, 'create', ['cpu'])).resolves.toMatchObject({ kind: 'cpu' })
    expect(started).toHaveLength(2)
  })

  test.each([
    ['panic', 'internal'],
    ['device lost', 'device'],
  ])('after a %s the worker is not used again', async (text, kind) => {
    const engine = await withDemo()
    await expect(engine.call(null, 'similarity', [{ ...quick, text, text_name: 'x' }])).rejects.toMatchObject({ kind })
    expect(started[0]!.ended).toBe(true)
    expect(engine.generation).toBe(1)
  })

  test('a worker that dies on its own fails what waits for it', async () => {
    const engine = await withDemo()
    const run = engine.call(null, 'similarity', [{ ...quick, text: 'hang', text_name: 'x' }])
    started[0]!.onerror!({ message: 'unreachable' } as ErrorEvent)
    await expect(run).rejects.toMatchObject({ kind: 'internal', message: expect.stringMatching(/\(unreachable\)/) })
  })
})

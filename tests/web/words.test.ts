import { describe, expect, test } from 'vitest'
import * as spaced from '../../www/ui/format'
import { describe as describeProgress, type Moment } from '../../www/app/progress'
import type { Progress } from '../../www/engine/protocol/events'
import { PARTS, stageOf, STAGES, stageStates, type Facts } from '../../www/app/stages'

/** Spaces before units do not break; here they are written as plain ones. */
const plain =
  <A>(words: (n: A) => string) =>
  (n: A) =>
    words(n).replaceAll('\u00a0', ' ')
const format = {
  ...spaced,
  bytes: plain(spaced.bytes),
  count: plain(spaced.count),
  seconds: plain(spaced.seconds),
  perplexity: plain(spaced.perplexity),
  nats: plain(spaced.nats),
  change: (a: number, b: number) => plain(() => spaced.change(a, b))(0),
}
const reading = (first: Moment, last: Moment) => {
  const { fraction, what, pace } = describeProgress(first, last)
  return { fraction, what, pace: pace.replaceAll('\u00a0', ' ') }
}

describe('numbers as a person reads them', () => {
  test.each([
    [0, '0 bytes'],
    [999, '999 bytes'],
    [1000, '1.00 kB'],
    [520_000, '520 kB'],
    [999_600, '1.00 MB'],
    [4.9e9, '4.90 GB'],
    [1.4e13, '14.0 TB'],
  ])('%d bytes', (n, words) => {
    expect(format.bytes(n)).toBe(words)
  })
  test.each([
    [512, '512'],
    [9_999, '9,999'],
    [578_112, '578 thousand'],
    [1.235e9, '1.24 billion'],
    [134_515_008, '135 million'],
  ])('%d things', (n, words) => {
    expect(format.count(n)).toBe(words)
  })
  test.each([
    [0.2, 'less than 1 s'],
    [42.4, '42 s'],
    [89.9, '90 s'],
    [150, '3 min'],
    [5399, '1 h 30 min'],
    [7260, '2 h 1 min'],
  ])('%d s', (n, words) => {
    expect(format.seconds(n)).toBe(words)
  })
  test.each([
    [6.745, '6.75'],
    [41, '41.0'],
    [852.3, '852'],
    [30120.4, '30,120'],
    [9.05e8, '905 million'],
    [Infinity, 'not finite'],
  ])('perplexity %d', (n, words) => {
    expect(format.perplexity(n)).toBe(words)
  })
  test.each([
    ['cancelled; nothing was written', 'Cancelled; nothing was written.'],
    ['the file is cut short.', 'The file is cut short.'],
    ['out-of-range numbers', 'Out-of-range numbers.'],
    // Names are not written otherwise.
    ['config.json: this is no JSON', 'config.json: this is no JSON.'],
    ['rope_scaling is not read', 'rope_scaling is not read.'],
    ['blk.0.attn_k: wrong shape', 'blk.0.attn_k: wrong shape.'],
    ['stories260K holds none', 'stories260K holds none.'],
  ])('a clause that stands alone: %s', (clause, words) => {
    expect(format.sentence(clause)).toBe(words)
  })
  test('change, groups, nats', () => {
    expect(format.change(6.745, 7.055)).toBe('4.6 % more than')
    expect(format.change(2, 1)).toBe('50 % less than')
    expect(format.change(6.7, 46.1)).toBe('6.9 times')
    expect(format.group([1, 2, 3])).toBe('1 2 3')
    expect(format.group([1, 2, 3, 4, 5])).toBe('1 to 5')
    expect([0, 0.0123, 1.5].map(format.nats)).toEqual(['0.00 nats', '0.012 nats', '1.50 nats'])
  })
})

describe('progress', () => {
  const at = (at_ms: number, done: number, extra: Partial<Progress> = {}) => ({
    at_ms,
    progress: {
      stage: 'capture',
      done,
      total: 32,
      unit: 'layers',
      detail: `layer ${done} of 32`,
      ...extra,
    } as Progress,
  })

  test('rate and time left come from the present stage', () => {
    expect(reading(at(1000, 2), at(3000, 12))).toEqual({
      fraction: 0.375,
      what: 'Running layer 12 of 32',
      pace: '5.0 layers a second, 4 s left',
    })
  })
  test('nothing is claimed before there is something to measure', () => {
    expect(reading(at(1000, 2), at(1000, 2)).pace).toBe('')
  })
  test('slow layers are told by the layer, bytes as bytes', () => {
    expect(reading(at(0, 0), at(10_000, 2)).pace).toBe('5 s for each of the layers, 3 min left')
    const bytes = { stage: 'write', unit: 'bytes', total: 4e9, detail: 'model.safetensors' } as const
    expect(reading(at(0, 0, bytes), at(10_000, 1e9, bytes))).toEqual({
      fraction: 0.25,
      what: 'Writing model.safetensors',
      pace: '100 MB a second, 30 s left',
    })
  })
  test('an unknown total is no fraction', () => {
    expect(reading(at(0, 0, { total: 0 }), at(500, 3, { total: 0 })).fraction).toBe(0)
  })
})

describe('stages', () => {
  const facts = (over: Partial<Facts> = {}): Facts => ({
    model: false,
    similarity: 'none',
    plan: 'none',
    written: 'none',
    running: null,
    ...over,
  })
  const words = (over: Partial<Facts>) =>
    Object.values(stageStates(facts(over)))
      .map(state => state.status)
      .join(' ')

  test('one step after the other', () => {
    expect(words({})).toBe('current waiting waiting waiting waiting waiting waiting')
    expect(words({ model: true })).toBe('done current waiting waiting waiting waiting waiting')
    expect(words({ model: true, similarity: 'fresh' })).toBe('done done done current waiting waiting waiting')
    expect(words({ model: true, similarity: 'fresh', plan: 'fresh' })).toBe('done done done done done done current')
    expect(words({ model: true, similarity: 'fresh', plan: 'fresh', written: 'fresh' })).toBe(
      'done done done done done done done',
    )
  })
  test('a changed setting makes what rests on it stale', () => {
    const stale = stageStates(facts({ model: true, similarity: 'stale', plan: 'stale', written: 'stale' }))
    expect([stale.see, stale.compress, stale.judge, stale.take].map(s => s.status)).toEqual([
      'stale',
      'stale',
      'stale',
      'stale',
    ])
    expect(stale.see.reason).toContain('compare the layers again')
    expect(words({ model: true, similarity: 'fresh', plan: 'stale' })).toBe('done done done done stale stale waiting')
  })
  test('a running stage is shown as such and nothing else is current', () => {
    expect(words({ model: true, running: 'similarity' })).toBe('done waiting running waiting waiting waiting waiting')
    expect(words({ model: true, similarity: 'fresh', running: 'plan' })).toBe(
      'done done done waiting running waiting waiting',
    )
  })
  test('four stages, each what the most urgent of its parts is; every part is in one', () => {
    const four = (over: Partial<Facts>) => {
      const states = stageStates(facts(over))
      return STAGES.map(({ parts }) => stageOf(states, parts).status).join(' ')
    }
    expect(four({})).toBe('current waiting waiting waiting')
    expect(four({ model: true })).toBe('done current waiting waiting')
    expect(four({ model: true, running: 'similarity' })).toBe('done running waiting waiting')
    expect(four({ model: true, similarity: 'fresh' })).toBe('done done current waiting')
    expect(four({ model: true, similarity: 'fresh', running: 'costs' })).toBe('done done running waiting')
    expect(four({ model: true, similarity: 'fresh', plan: 'stale' })).toBe('done done stale waiting')
    expect(four({ model: true, similarity: 'fresh', plan: 'fresh' })).toBe('done done done current')
    expect(four({ model: true, similarity: 'fresh', plan: 'fresh', written: 'fresh' })).toBe('done done done done')
    expect(STAGES.flatMap(({ parts }) => [...parts]).toSorted()).toEqual(PARTS.map(({ id }) => id).toSorted())
  })
  test('a stage that waits says for what', () => {
    const states = stageStates(facts({ model: true }))
    expect([states.see.reason, states.judge.reason, states.take.reason]).toEqual(
      Array(3).fill('Compare the layers first.'),
    )
    expect(stageStates(facts()).plan.reason).toBe('Open a model first.')
  })
})

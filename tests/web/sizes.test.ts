import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Actions } from '../../www/app/actions'
import { calibrationChart } from '../../www/charts/calibration'
import type { CalibrationPoint } from '../../www/engine/protocol/quality'
import { makingOf } from '../../www/words/methods'
import { sizesTable, tableArray } from '../../www/figures/figures'
import { measureSizes, readingOf, sizesFor } from '../../www/result/moretext'
import type { State } from '../../www/app/state.svelte'
import { acting } from './acting'
import { METHODS } from './mock/methods'
import { rounded } from './stored'

const point = (sequences: number, kl: number | null): CalibrationPoint => ({
  sequences,
  tokens: sequences * 48,
  quality: { perplexity: 9, kl, top1_agreement: 0.7, collapsed: false },
  seconds: 1,
})

test('an eighth, a quarter, half and all of the sequences', () => {
  expect([128, 96, 20, 6, 3, 2, 1].map(sizesFor)).toEqual([
    [16, 32, 64, 128],
    [12, 24, 48, 96],
    [3, 5, 10, 20],
    [2, 3, 6],
    [2, 3],
    [2],
    [1],
  ])
})

describe('what the sizes say', () => {
  test.each([
    [[0.5, 0.44], 'Twice as much text lowered KL by 12\u00a0%; more would probably help.'],
    [[0.9, 0.5, 0.495], 'The last doubling changed KL by less than 2\u00a0%: more text would hardly help.'],
    [[0.5, 0.505], 'The last doubling changed KL by less than 2\u00a0%: more text would hardly help.'],
    [
      [0.5, 0.53],
      'Twice as much text raised KL by 6.0\u00a0%: it is not for want of text, and more of this kind would hardly help.',
    ],
    [[0.5], ''],
    [[], ''],
  ])('%j', (kls, sentence) => {
    expect(readingOf(kls.map((kl, i) => point(8 * 2 ** i, kl)))).toBe(sentence)
  })
  test('steps that are no doublings, and numbers that are none', () => {
    expect(readingOf([point(2, 0.5), point(3, 0.4)])).toBe(
      '1.5 times as much text lowered KL by 20\u00a0%; more would probably help.',
    )
    for (const bad of [null, NaN, Infinity, 0])
      expect(readingOf([point(8, bad), point(16, 0.1)])).toMatch(/^KL could not be measured/)
    expect(readingOf([point(8, 0.1), point(16, Infinity)])).toMatch(/^KL could not be measured/)
  })
})

describe('the picture', () => {
  const frame = { width: 300, height: 100, wanted: [16, 32, 64, 128], each: 48 }
  test('each doubling is a step of one length, KL is linear from 0, and the axis is there before the points', () => {
    const { marks, xTicks, path } = calibrationChart([point(16, 0.4), point(32, 0.2)], frame)
    expect(xTicks.map(tick => [tick.tokens, rounded(tick.at), tick.measured])).toEqual([
      [768, 0, true],
      [1536, 100, true],
      [3072, 200, false],
      [6144, 300, false],
    ])
    expect(marks.map(mark => [rounded(mark.x), rounded(100 - mark.y)])).toEqual([
      [0, rounded(100 / 1.05)],
      [100, rounded(50 / 1.05)],
    ])
    expect(path).toMatch(/^M0,.*L100,/)
    expect(calibrationChart([], frame)).toMatchObject({ marks: [], path: '', yTicks: [] })
  })
  test('one size alone stands in the middle, and what is not finite is left out', () => {
    const { marks } = calibrationChart([point(2, 0.4)], { ...frame, wanted: [2] })
    expect(marks.map(mark => mark.x)).toEqual([150])
    expect(calibrationChart([point(16, NaN), point(32, Infinity), point(64, null)], frame).marks).toEqual([])
  })
  test('the table and the array', () => {
    const table = sizesTable([point(16, 0.4), point(32, null)])
    expect(table.rows).toEqual([
      [16, 768, 9, 0.4, 0.7, 0, 1],
      [32, 1536, 9, null, 0.7, 0, 1],
    ])
    expect(tableArray(table)?.shape).toEqual([2, 7])
  })
})

describe('measured', () => {
  let state: State
  let actions: Actions
  let workers: ReturnType<typeof acting>['workers']
  beforeEach(async () => {
    ;({ state, actions, workers } = acting())
    await actions.runDemo()
    await actions.compress()
  })
  afterEach(() => workers.forEach(worker => worker.terminate()))

  test('the recommended method is what the page begins with, judged on a text of its own', () => {
    expect(state.plan?.options).toMatchObject(makingOf(METHODS.find(method => method.name === 'laminate')!))
    expect(state.plan?.report.text.name).toBe('built-in evaluation text')
    expect(state.steps.map(step => step.perplexity === null)).toEqual([true, true, true, true, true, true, false])
  })

  test('all sizes, each as it comes; the last is the plan itself; gone with the plan', async () => {
    const seen: number[] = []
    const going = measureSizes(actions)
    const watch = setInterval(() => {
      if (state.sizes && seen.at(-1) !== state.sizes.points.length) seen.push(state.sizes.points.length)
    }, 1)
    expect(await going).toBe(true)
    clearInterval(watch)
    expect(seen.slice(0, 4)).toEqual([0, 1, 2, 3])
    expect(state.sizes).toMatchObject({ key: state.plan!.key, wanted: [16, 32, 64, 128] })
    const points = state.sizes!.points
    expect(points.map(each => each.sequences)).toEqual([16, 32, 64, 128])
    expect(points.map(each => each.quality.kl)).toEqual(points.map(each => each.quality.kl).toSorted((a, b) => b! - a!))
    expect(points.at(-1)!.quality).toEqual(state.plan!.report.merged)
    await actions.compress()
    expect(state.sizes).toBeNull()
  })

  test('a stop keeps the points that came, and is no error', async () => {
    const going = measureSizes(actions)
    await vi.waitFor(() => expect(state.sizes?.points.length).toBe(2))
    actions.cancel()
    expect(await going).toBe(true)
    expect(state.sizes?.points.length).toBeGreaterThanOrEqual(2)
    expect(state.sizes?.points.length).toBeLessThan(4)
    expect(state.notice).toBeNull()
  })

  test('another text to judge on makes the plan stale, and one that was calibrated on is refused', async () => {
    Object.assign(state.choice.evaluation, { text: 'overlap with calibration', text_name: 'mine' })
    expect(state.planFresh).toBe('stale')
    expect(await actions.compress()).toBe(false)
    expect(state.notice?.error).toMatchObject({
      kind: 'usage',
      message: expect.stringMatching(/12\.4 % of mine was seen in calibration/),
    })
    Object.assign(state.planOptions, makingOf(METHODS.find(method => method.name === 'mka')!))
    expect(await actions.compress()).toBe(true)
    state.choice.evaluation.text = null
    expect(state.planFresh).toBe('fresh')
    expect(await measureSizes(actions)).toBe(false)
    expect(state.notice?.error.message).toContain('are not fitted to any text')
    expect(state.sizes).toBeNull()
  })
})

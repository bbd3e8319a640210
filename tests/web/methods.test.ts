import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Actions } from '../../www/app/actions'
import { compareMethods, tick } from '../../www/methods/compare'
import { PLAN } from '../../www/app/defaults'
import type { Operator } from '../../www/engine/protocol/method'
import {
  chosenComparison,
  comparesAnew,
  fitting,
  isFitted,
  isSearch,
  makingOf,
  mergesWords,
  methodOf,
  modelsOf,
  OPERATORS,
  otherMethods,
  parseCounts,
  planWith,
  sizeOf,
  spareExperts,
  spreadCounts,
  suggestedCounts,
  titleOf,
  withSelection,
  type Choice,
} from '../../www/words/methods'
import { comparisonState } from '../../www/app/stages'
import type { State } from '../../www/app/state.svelte'
import { acting } from './acting'
import { METHODS } from './mock/methods'

const evaluation = { text: null, text_name: null, samples: 8, tokens: 16 }

describe('numbers of layers, as they are typed', () => {
  test.each([
    ['2, 4, 6', [2, 4, 6]],
    [' 6;2 4 ', [6, 2, 4]],
    ['3,3,3', [3]],
    ['11', [11]],
  ])('%s', (text, counts) => {
    expect(parseCounts(text, 12)).toEqual({ counts, error: '' })
  })
  test.each([
    ['', 'Say how many'],
    [' , ', 'Say how many'],
    ['2, x', '“x” is not a whole number'],
    ['1.5', '“1.5”'],
    ['-1', '“-1”'],
    ['0', '0 of 12 layers cannot be removed: from 1 to 11 can.'],
    ['2, 12', '12 of 12'],
  ])('"%s" is refused with a reason', (text, error) => {
    expect(parseCounts(text, 12)).toEqual({ counts: [], error: expect.stringContaining(error) })
  })
  test('a model of one layer has nothing to remove', () => {
    expect(parseCounts('1', 1).error).toContain('single layer')
  })
  test('what is suggested can be done', () => {
    expect([30, 16, 12, 5, 2].map(suggestedCounts)).toEqual(['4', '2', '2', '1', '1'])
    for (const layers of [2, 3, 12, 80]) expect(parseCounts(suggestedCounts(layers), layers).error).toBe('')
  })
})

describe('named methods', () => {
  test('the defaults are MKA, and every method is found by what it is', () => {
    expect(methodOf(METHODS, PLAN)?.name).toBe('mka')
    for (const method of METHODS) expect(methodOf(METHODS, method)).toBe(method)
  })
  test('the similarity beside a merge is of that moment only where layers are compared again after each', () => {
    const now = { order: 'in the order they were made', of: 'of the two at that moment' }
    const first = { order: '', of: 'of the two neighbours in the original model' }
    expect(mergesWords(PLAN)).toEqual(now)
    const named = (name: string) => ({ ...PLAN, ...makingOf(METHODS.find(method => method.name === name)!) })
    expect(
      [
        named('laminate'),
        { ...PLAN, one_shot: true },
        { ...PLAN, selection: 'bi' as const },
        { ...PLAN, selection: 'hand' as const, absorb: [3] },
      ].map(mergesWords),
    ).toEqual([first, first, first, first])
    // A plan from a recipe, and one whose options are not known.
    expect([{ ...PLAN, selection: 'hand' as const }, null].map(mergesWords)).toEqual([
      { order: '', of: '' },
      { order: '', of: '' },
    ])
    expect(METHODS.filter(comparesAnew).map(({ name }) => name)).toEqual(['mka'])
  })
  test('a pair without a name has none; one pass matters to the similarity alone', () => {
    expect(methodOf(METHODS, { ...PLAN, one_shot: true })).toBeNull()
    expect(methodOf(METHODS, { ...PLAN, operator: 'refit' })).toBeNull()
    expect(methodOf(METHODS, { ...PLAN, selection: 'bi', operator: 'drop', one_shot: true })?.name).toBe('shortgpt')
  })
  test('passes matter to the similarity alone, runs to neighbours, and layers tried to searches', () => {
    const laminate = makingOf(METHODS.find(method => method.name === 'laminate')!)
    expect(methodOf(METHODS, { ...PLAN, ...laminate })?.name).toBe('laminate')
    expect(
      [{ longest_run: null }, { longest_run: 8 }].map(over => methodOf(METHODS, { ...laminate, ...over })),
    ).toEqual([null, null])
    expect(methodOf(METHODS, { ...laminate, candidates: 7, one_shot: false })?.name).toBe('laminate')
    const searched = makingOf(METHODS.find(method => method.name === 'laminate-search')!)
    expect(methodOf(METHODS, { ...searched, longest_run: 9, one_shot: false })?.name).toBe('laminate-search')
    expect(methodOf(METHODS, { ...searched, candidates: null })).toBeNull()
  })
  test('those without a place of their own, the search first', () => {
    expect(
      otherMethods(METHODS)
        .map(method => method.name)
        .slice(0, 3),
    ).toEqual(['laminate-search', 'mka-code', 'shortgpt'])
    expect(otherMethods(METHODS)).toHaveLength(METHODS.length - 2)
    expect(Object.keys(OPERATORS).filter(operator => !isFitted(operator as Operator))).toEqual([
      'average',
      'drop',
      'laco',
    ])
  })
  test('experts go only where there are some to spare, and then all layers may stay', () => {
    expect(
      [
        null,
        {},
        { experts: [8, 2] as [number, number] },
        { experts: [4, 1] as [number, number] },
        { experts: [2, 2] as [number, number] },
      ].map(spareExperts),
    ).toEqual([0, 0, 6, 2, 0])
    const options = { ...PLAN, remove: 0, remove_experts: 5, expert_selection: 'frequency' as const }
    expect(fitting(options, { experts: [8, 2] })).toEqual(options)
    expect(fitting(options, { experts: [4, 2] })).toEqual({ ...options, remove_experts: 2 })
    expect(fitting(options, {})).toEqual({ ...PLAN, remove: 1 })
    expect(fitting({ ...PLAN, remove: 3, remove_experts: 0 }, { experts: [8, 2] })).toEqual({ ...PLAN, remove: 3 })
  })
  test('an unknown name is called by itself', () => {
    expect([titleOf(METHODS, 'laco'), titleOf(METHODS, 'new')]).toEqual(['LaCo', 'new'])
  })
  test('only neighbours have a similarity to stop at', () => {
    const options = { ...PLAN, remove: null, min_similarity: 0.9 }
    expect(withSelection(options, 'mka', 12)).toEqual({ selection: 'mka' })
    expect(withSelection(options, 'redundancy', 12)).toEqual({ selection: 'redundancy' })
    expect(withSelection(options, 'bi', 12)).toEqual({ selection: 'bi', remove: 3, min_similarity: null })
    expect(withSelection(PLAN, 'bi', 12)).toEqual({ selection: 'bi' })
  })
  test('a line of a comparison as a plan', () => {
    expect(
      planWith({ method: 'laminate', selection: 'redundancy', operator: 'pool-refit', removed: 4 }, METHODS, 5),
    ).toEqual({
      remove: 4,
      min_similarity: null,
      selection: 'redundancy',
      operator: 'pool-refit',
      one_shot: true,
      longest_run: 4,
      candidates: null,
      alpha: 'similarity',
      seed: 5,
    })
  })
})

describe('what is chosen', () => {
  const choice = (over: Partial<Choice> = {}): Choice => ({
    methods: ['laco', 'mka'],
    counts: '2, 4',
    evaluation,
    seed: 1,
    types: ['keep'],
    size: null,
    ...over,
  })

  test('becomes options, in the order of the ticks', () => {
    const { options } = chosenComparison(choice(), 12)
    expect(options).toEqual({ methods: ['laco', 'mka'], remove: [2, 4], evaluation, seed: 1 })
    expect([sizeOf(options!), sizeOf({ ...options!, remove: [2] })]).toEqual([
      '2 methods with 2 numbers of layers: 4 models',
      '2 models',
    ])
    const typed = chosenComparison(choice({ types: ['q4_k_m', 'keep', 'q8_0'] }), 12).options!
    expect([typed.dtypes, modelsOf(typed), sizeOf(typed)]).toEqual([
      ['keep', 'q8_0', 'q4_k_m'],
      12,
      '2 methods with 2 numbers of layers in 3 types: 12 models',
    ])
    expect([spreadCounts(12), spreadCounts(30), spreadCounts(2)]).toEqual(['1, 2, 3, 4', '3, 5, 8, 10', '1'])
    const mine = choice()
    tick(mine, 'random', true)
    tick(mine, 'laco', false)
    tick(mine, 'laco', true)
    expect(mine.methods).toEqual(['mka', 'random', 'laco'])
  })
  test.each([
    [{ methods: [] }, 'at least one method'],
    [{ types: [] }, 'at least one number type'],
    [{ counts: '99' }, '99 of 12'],
    [{ evaluation: { ...evaluation, text: ' ', text_name: 'x' } }, 'Paste a text'],
  ])('or a reason why not: %o', (over, error) => {
    expect(chosenComparison(choice(over), 12)).toEqual({ options: null, error: expect.stringContaining(error) })
  })
  test('the state beside the stages', () => {
    const done = { status: 'done', reason: '' } as const
    expect(comparisonState({ status: 'waiting', reason: 'Open a model first.' }, 'none').reason).toBe(
      'Open a model first.',
    )
    expect(comparisonState({ status: 'current', reason: '' }, 'none').reason).toBe('Compare the layers first.')
    expect([
      comparisonState(done, 'none').reason,
      comparisonState(done, 'fresh').status,
      comparisonState(done, 'stale').status,
    ]).toEqual(['', 'done', 'stale'])
  })
})

describe('a comparison', () => {
  let workers: ReturnType<typeof acting>['workers']
  let state: State
  let actions: Actions

  beforeEach(async () => {
    ;({ state, actions, workers } = acting())
    await actions.runDemo()
    Object.assign(state.choice, { methods: ['laco', 'mka'], counts: '4, 2' })
  })
  afterEach(() => workers.forEach(worker => worker.terminate()))

  test('the engine says what methods there are; those that search are left to the user', () => {
    expect(state.methods).toEqual(METHODS)
    expect(state.stories?.evaluation.name).toContain('evaluation')
    state.choice.methods = []
    expect(METHODS.filter(isSearch).map(method => method.name)).toEqual(['sleb', 'greedy-kl', 'laminate-search'])
  })
  test('runs what is chosen, and is as fresh as what it rests on', async () => {
    expect(await compareMethods(actions)).toBe(true)
    const { report } = state.comparison!
    expect(report.rows.map(row => [row.method, row.removed])).toEqual([
      ['laco', 4],
      ['laco', 2],
      ['mka', 4],
      ['mka', 2],
    ])
    expect([report.cancelled, report.evaluation.tokens_scored, state.comparisonFresh, state.compared.status]).toEqual([
      false,
      32 * 127,
      'fresh',
      'done',
    ])
    state.choice.counts = '4,2'
    expect(state.comparisonFresh).toBe('fresh')
    state.choice.counts = '4, x'
    expect(state.comparisonFresh).toBe('stale')
    state.choice.counts = '4, 2'
    state.calibration.samples = 40
    expect(state.comparisonFresh).toBe('stale')
    expect(await actions.compress()).toBe(true)
    expect(state.comparison).not.toBeNull()
    await actions.openDemo()
    expect([state.comparison, state.rows.length]).toEqual([null, 0])
  })
  test('a stop keeps what is done and is no error', async () => {
    state.choice.methods = METHODS.map(method => method.name)
    const run = compareMethods(actions)
    await vi.waitFor(() => expect(state.rows.length).toBeGreaterThan(1))
    actions.cancel()
    expect(await run).toBe(true)
    expect([state.comparison?.report.cancelled, state.notice, state.run]).toEqual([true, null, null])
    expect(state.comparison!.report.rows.length).toBeGreaterThan(1)
    expect(workers).toHaveLength(1)
  })
  test('a failure of the whole keeps the results before it; one before the first keeps the last comparison', async () => {
    await compareMethods(actions)
    Object.assign(state.choice.evaluation, { text: 'device lost', text_name: 'x' })
    expect(await compareMethods(actions)).toBe(false)
    expect(state.notice?.error.kind).toBe('device')
    expect(state.comparison?.report.rows).toHaveLength(4)
    expect(state.comparisonFresh).toBe('stale')
  })
  test('a method that fails is a row, and a plan is not mixed up with it', async () => {
    Object.assign(state.choice, { methods: ['flatten'], counts: '8' })
    expect(await compareMethods(actions)).toBe(true)
    expect(state.comparison?.report.rows[0]).toMatchObject({
      quality: null,
      error: expect.stringContaining('disjoint pairs'),
    })
    expect([state.steps, state.plan]).toEqual([[], null])
  })
  test('a choice that cannot be run says why', async () => {
    state.choice.methods = []
    expect(await compareMethods(actions)).toBe(false)
    expect(state.notice?.error).toMatchObject({ kind: 'usage', message: 'Choose at least one method.' })
  })
  test('another model gets numbers of its own', async () => {
    expect(state.choice.counts).toBe('4, 2')
    await actions.openDemo()
    Object.assign(state.planOptions, { remove: null, min_similarity: 0.9 })
    await actions.compare()
    expect([state.choice.counts, state.planOptions.min_similarity]).toEqual(['2', null])
  })
})

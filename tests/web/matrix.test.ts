import { describe, expect, test, vi } from 'vitest'
import { Gestures, type Picture } from '../../www/similarity/matrix/gestures'
import { Keys, type Keyed } from '../../www/similarity/matrix/keys'
import {
  blockWords,
  cellWords,
  difference,
  differenceWords,
  meaning,
  mergeWords,
} from '../../www/similarity/matrix/words'
import { readRun, remembered, runOf } from '../../www/similarity/matrix/runs'
import { chooseAgainst, chooseMetric, openRun } from '../../www/similarity/matrix/actions'
import { goByRule, lockLayer, mergeByHand, openRecipe, startFromNothing, travel } from '../../www/plan/edit'
import { presentGroups } from '../../www/plan/present'
import { isWhole, whole, type GridCell, type View } from '../../www/charts/view'
import { acting } from './acting'
import { goldenPlan, stored } from './stored'

const matrix = { values: stored.similarity, metric: 'mi' as const, shared: stored.mutual_information }
const json = (value: unknown, name = 'similarity.json') =>
  new File([typeof value === 'string' ? value : JSON.stringify(value)], name)

describe('a square in words', () => {
  test('value and what it means', () => {
    expect(cellWords(matrix, 2, 1)).toMatch(/^layers 1 and 2: similarity 0.929, \d.\d\d\snats shared$/)
    expect(cellWords({ ...matrix, shared: [] }, 3, 3)).toBe('layer 3 with itself: similarity 1.000')
    expect(cellWords({ ...matrix, values: [] }, 3, 4)).toBe('layers 3 and 4: not computed yet')
    expect(meaning(matrix, 1, 2)).toMatch(
      /^Knowing the map of one tells nearly all of the other: they do almost the same. More alike than \d+\s% of the other pairs.$/,
    )
    expect(meaning(matrix, 2, 3)).toMatch(/The most alike of all pairs.$/)
    // Where no two layers are alike, the most alike of them are not said to have nothing in common.
    expect(meaning({ values: [[1], [0.31, 1], [0.27, 0.492, 1]], metric: 'mi', shared: [] }, 1, 2)).toBe(
      'They share about as much as layers that both work usually do. No other pair is more alike.',
    )
    expect(meaning({ ...matrix, metric: 'cosine' }, 1, 2)).toMatch(/^By cosine the order says more than the number./)
    expect(meaning(matrix, 4, 4)).toMatch(/by definition/)
  })
  test('merging those that are not neighbours, or write a massive activation, says so', () => {
    expect(mergeWords(1, 2, [])).toBe('')
    expect(mergeWords(4, 1, [])).toMatch(/the 2 layers between them/)
    expect(mergeWords(1, 2, [2])).toMatch(/^Layer 2 writes a massive activation/)
    expect(mergeWords(2, 3, [2])).toBe('')
  })
  test('a block, without its diagonal', () => {
    expect(blockWords([[1], [0.5, 1], [0.1, 0.3, 1]], { row: 0, col: 0, rows: 3, cols: 3 })).toBe(
      'layers 0 to 2 with each other: similarity 0.100 to 0.500, 0.300 on average',
    )
    expect(blockWords([[1], [0.5, 1], [0.1, 0.3, 1]], { row: 2, col: 0, rows: 1, cols: 2 })).toBe(
      'layer 2 with layers 0 to 1: similarity 0.100 to 0.300, 0.200 on average',
    )
    expect(blockWords([[1]], { row: 0, col: 0, rows: 1, cols: 1 })).toBe(
      'layer 0 with each other: nothing computed yet',
    )
  })
  test('a difference', () => {
    expect(
      difference(
        [[1], [0.5, 1]],
        [
          [1, 0.7],
          [0.7, 1],
        ],
      ).map(row => row.map(v => Number(v.toFixed(6)))),
    ).toEqual([[0], [-0.2, 0]])
    const [a, b] = [
      { values: [[1], [0.5, 1]], name: 'by a' },
      { values: [[1], [0.7, 1]], name: 'by b' },
    ]
    expect(differenceWords(a, b, 0, 1)).toBe('layers 0 and 1: 0.200 less alike by a (0.500) than by b (0.700)')
    expect(differenceWords(a, b, 1, 1)).toBe('layer 1 with itself: no difference, 1.000 in both')
  })
})

describe('other runs', () => {
  test('a saved report comes back', async () => {
    const run = await readRun(json(stored))
    expect([run.layers, run.metric, run.similarity]).toEqual([12, 'mi', stored.similarity])
    expect(run.name).toMatch(/^similarity.json: stories-planted-12L, diffusion maps/)
  })
  test('the same settings once, the oldest forgotten', () => {
    const runs = Array.from({ length: 10 }, (_, i) => i).reduce(
      (list, i) => remembered(list, runOf(stored, `run ${i % 9}`)),
      [] as ReturnType<typeof remembered>,
    )
    expect(runs.map(run => run.id)).toEqual([2, 3, 4, 5, 6, 7, 8, 0].map(i => `run ${i}`))
  })
  test.each([
    ['{', /not JSON/],
    ['{}', /there is no “similarity”/],
    ['null', /there is no “similarity”/],
    [{ ...stored, similarity: [[1, 0.5]] }, /similarity\[0\] has 2 entries and 1 are needed/],
    [
      {
        ...stored,
        similarity: [
          [1, 0.5],
          [null, 1],
        ],
      },
      /similarity\[1\]\[0\] is not a finite number/,
    ],
    [
      {
        ...stored,
        similarity: [
          [1, 7],
          [7, 1],
        ],
      },
      /is 7 and must be from -1 to 1/,
    ],
    [
      {
        ...stored,
        similarity: [
          [1, 0.5],
          [0.4, 1],
        ],
      },
      /not symmetric/,
    ],
    [{ ...stored, metric: 'taste' }, /by which metric/],
  ])('%#: one sentence', async (content, sentence) => {
    await expect(readRun(json(content))).rejects.toMatchObject({
      kind: 'format',
      message: expect.stringMatching(sentence),
    })
  })
  test('a matrix that is too large is not taken', async () => {
    const similarity = Array.from({ length: 1025 }, () => [])
    await expect(readRun(json({ ...stored, similarity }))).rejects.toThrow(/1025 layers/)
  })
})

describe('gestures', () => {
  function picture(more: Partial<Picture> = {}) {
    const state = { view: whole(12), marked: null as View | null, pressed: [] as unknown[] }
    const gestures = new Gestures(() => ({
      n: 12,
      shown: state.view,
      cell: 10,
      brushing: false,
      capture: vi.fn(),
      point: vi.fn(),
      under: ({ clientX, clientY }) => [Math.floor(clientY / 10), Math.floor(clientX / 10)],
      show: view => (state.view = view),
      mark: view => (state.marked = view),
      press: cell => state.pressed.push(cell),
      ...more,
    }))
    const at = (clientX: number, clientY: number, more: object = {}) => ({
      clientX,
      clientY,
      pointerId: 1,
      pointerType: 'mouse',
      button: 0,
      shiftKey: false,
      ...more,
    })
    const drag = (from: [number, number], to: [number, number], more: object = {}) => {
      gestures.pressed(at(...from, more))
      gestures.moved(at(...to, more))
      gestures.released(at(...to, more))
    }
    return { state, gestures, at, drag }
  }
  test('a click chooses, a drag zooms to a block', () => {
    const { state, drag } = picture()
    drag([25, 15], [26, 16])
    expect([state.pressed, state.view]).toEqual([[[1, 2]], whole(12)])
    drag([25, 15], [65, 45])
    expect([state.marked, state.view]).toEqual([
      { row: 1, col: 2, rows: 4, cols: 5 },
      { row: 1, col: 2, rows: 4, cols: 5 },
    ])
    expect(state.pressed).toHaveLength(1)
  })
  test('one finger moves, unless it draws', () => {
    const { state, drag } = picture()
    state.view = { row: 2, col: 2, rows: 4, cols: 4 }
    drag([35, 35], [15, 55], { pointerType: 'touch' })
    expect(state.view).toEqual({ row: 0, col: 4, rows: 4, cols: 4 })
    const drawing = picture({ brushing: true })
    drawing.drag([5, 5], [35, 35], { pointerType: 'touch' })
    expect(drawing.state.view).toEqual({ row: 0, col: 0, rows: 4, cols: 4 })
  })
  test('two fingers zoom and choose nothing', () => {
    const { state, gestures, at } = picture()
    const finger = (id: number) => ({ pointerId: id, pointerType: 'touch' })
    gestures.pressed(at(50, 60, finger(1)))
    gestures.pressed(at(70, 60, finger(2)))
    gestures.moved(at(80, 60, finger(2)))
    gestures.moved(at(40, 60, finger(1)))
    gestures.released(at(40, 60, finger(1)))
    gestures.released(at(80, 60, finger(2)))
    expect([state.view.rows, state.pressed]).toEqual([6, []])
  })
  test('what the browser takes over ends', () => {
    const { state, gestures, at } = picture()
    gestures.pressed(at(5, 5))
    gestures.moved(at(55, 55))
    expect([gestures.dragging, state.marked?.rows]).toEqual([true, 6])
    gestures.cancelled(at(55, 55))
    expect([gestures.dragging, state.marked, state.view]).toEqual([false, null, whole(12)])
  })
})

describe('keys', () => {
  function picture(more: Partial<Keyed> = {}) {
    const state = {
      at: [3, 3] as GridCell,
      view: null as View | null,
      brush: null as View | null,
      done: [] as unknown[],
    }
    const keys = new Keys(() => ({
      n: 12,
      at: state.at,
      shown: state.view ?? whole(12),
      view: state.view,
      brush: state.brush,
      go: cell => (state.at = cell),
      show: view => (state.view = isWhole(view, 12) ? null : view),
      mark: block => (state.brush = block),
      pick: cell => state.done.push(['pick', ...cell]),
      merge: cell => state.done.push(['merge', ...cell]),
      ...more,
    }))
    /** Whether the browser is kept from doing its own. */
    const press = (key: string, more: object = {}) => {
      const preventDefault = vi.fn()
      keys.pressed({ key, ctrlKey: false, metaKey: false, altKey: false, shiftKey: false, ...more, preventDefault })
      return preventDefault.mock.calls.length > 0
    }
    return { state, press }
  }
  test('arrows go, Enter chooses, M merges; what is no key of the picture is left to the browser', () => {
    const { state, press } = picture()
    expect([
      press('ArrowRight'),
      press('Enter'),
      press('M'),
      press('x'),
      press('Escape'),
      press('m', { ctrlKey: true }),
    ]).toEqual([true, true, true, false, false, false])
    expect([state.at, state.done]).toEqual([
      [3, 4],
      [
        ['pick', 3, 4],
        ['merge', 3, 4],
      ],
    ])
    const read = picture({ pick: undefined, merge: undefined })
    expect([read.press('Enter'), read.press('m')]).toEqual([false, false])
  })
  test('Shift and arrows mark a block from where they began, Enter zooms to it, Escape goes back', () => {
    const { state, press } = picture()
    press('ArrowDown', { shiftKey: true })
    press('ArrowRight', { shiftKey: true })
    expect(state.brush).toEqual({ row: 3, col: 3, rows: 2, cols: 2 })
    press('Enter')
    expect([state.view, state.done]).toEqual([{ row: 3, col: 3, rows: 2, cols: 2 }, []])
    expect(press('Escape')).toBe(true)
    expect([state.view, state.brush]).toEqual([null, null])
    press('ArrowDown', { shiftKey: true })
    press('ArrowUp')
    expect(state.brush).toBeNull()
  })
  test('plus, minus and 0 zoom', () => {
    const { state, press } = picture()
    press('+')
    expect(state.view?.rows).toBe(8)
    press('-')
    expect(state.view).toBeNull()
    press('=')
    press('0')
    expect(state.view).toBeNull()
  })
})

describe('on the page', () => {
  test('another metric compares at once, keeps the plan, and is remembered as a run', async () => {
    const { state, actions } = acting()
    await actions.runDemo()
    state.planOptions.remove = 2
    await actions.compress()
    const choosing = chooseMetric(actions, 'cosine')
    expect([state.run?.kind, state.live]).toEqual(['metric', null])
    await choosing
    expect([state.maps?.report.metric, state.mapsFresh, state.planFresh, state.plan === null]).toEqual([
      'cosine',
      'fresh',
      'stale',
      false,
    ])
    await Promise.all([chooseMetric(actions, 'cka'), chooseMetric(actions, 'mi')])
    expect([state.planFresh, state.matrix.runs.map(run => run.metric)]).toEqual(['fresh', ['cosine', 'mi']])
  })
  test('something to compare with: a metric, a file, nothing', async () => {
    const { state, actions } = acting()
    await actions.runDemo()
    await chooseAgainst(actions, { kind: 'metric', metric: 'cka' })
    expect([state.matrix.against, state.matrix.others.by.cka?.length, state.maps?.report.metric]).toEqual([
      { kind: 'metric', metric: 'cka' },
      12,
      'mi',
    ])
    await openRun(actions, json(stored))
    expect(state.matrix.against).toMatchObject({ kind: 'run' })
    await openRun(actions, json('{'))
    expect(state.notice?.error.message).toMatch(/not JSON/)
    await chooseAgainst(actions, null)
    expect(state.matrix.against).toBeNull()
  })
  test('the plan that is shown is where a hand begins; undo goes back to the rule', async () => {
    const { state, actions } = acting()
    await actions.runDemo()
    expect([presentGroups(state).from, presentGroups(state).groups.length]).toEqual(['foretold', 5])
    mergeByHand(state, [3, 4])
    expect(presentGroups(state)).toMatchObject({ from: 'hand', groups: [[0], [1, 2, 3, 4, 5, 6], [7, 8, 9], [10, 11]] })
    startFromNothing(state)
    mergeByHand(state, [10, 11])
    mergeByHand(state, [1, 2])
    lockLayer(state, 11)
    expect([state.hand.present.absorb, state.chosenPlan.locked]).toEqual([[2], [11]])
    travel(state, 'undo')
    await actions.compress()
    expect(state.plan?.report.plan.groups.filter(group => group.length > 1)).toEqual([
      [1, 2],
      [10, 11],
    ])
    expect([state.planFresh, presentGroups(state).from]).toEqual(['fresh', 'made'])
    for (let i = 0; i < 4; i++) travel(state, 'undo')
    expect([presentGroups(state).from, state.planFresh]).toEqual(['foretold', 'stale'])
    goByRule(state)
    expect(state.hand.present.active).toBe(false)
  })
  test('a recipe is measured as it is, and another model forgets it', async () => {
    const { state, actions } = acting()
    await actions.runDemo()
    const { plan } = await goldenPlan(3)
    expect(await openRecipe(actions, json({ plan, options: null }))).toBe(true)
    await actions.compress()
    expect(state.plan?.report.plan.weights).toEqual(plan.weights)
    expect(state.planFresh).toBe('fresh')
    mergeByHand(state, [10, 11])
    expect([state.hand.present.exact, state.hand.present.absorb]).toEqual([null, [3, 8, 2, 11]])
    expect(await openRecipe(actions, json('[]'))).toBe(false)
    await actions.openDemo()
    expect(state.hand.past).toEqual([])
  })
})

import { beforeAll, describe, expect, test } from 'vitest'
import {
  closestWords,
  aboveScale,
  comparisonCsv,
  comparisonMarkdown,
  footing,
  overlapWarning,
  readOut,
} from '../../www/charts/comparison'
import { curveChart } from '../../www/charts/curve'
import { elbow, elbowOf } from '../../www/charts/elbow'
import { markColour, markPath } from '../../www/charts/marks'
import { inOrder, inOrderOf, keyOfRow, nextSorting, remarksOf } from '../../www/charts/rows'
import { flowed, wrapped } from '../../www/charts/text'
import { logTicks } from '../../www/charts/ticks'
import { tradeoff } from '../../www/charts/tradeoff'
import type { CompareRow } from '../../www/engine/protocol/compare'
import type { Comparison } from '../../www/charts/speed'
import { titleOf } from '../../www/words/methods'
import { compareOf } from './mock/compare'
import { METHODS } from './mock/methods'
import { goldenPlan, stored } from './stored'

const title = (name: string) => titleOf(METHODS, name)
const names = METHODS.map(method => method.name)
const options = {
  methods: ['laco', 'mka', 'mka-code', 'flatten'],
  remove: [6, 2],
  evaluation: { text: null, text_name: null, samples: 8, tokens: 16 },
  seed: 3,
}
let report: Comparison
let rows: CompareRow[]
beforeAll(async () => {
  report = await compareOf(stored, options, async () => false, stored.device)
  rows = report.rows
})

describe('the elbow', () => {
  test.each([
    ['even costs have none', [0.1, 0.2, 0.3, 0.4], 4],
    ['a jump', [0.1, 0.2, 0.3, 0.9, 1.5], 3],
    ['costs that grow', [0.12, 0.25, 0.4, 0.6, 0.9, 1.4], 4],
    ['twice next to nothing is next to nothing', [0.0034, 0.0074, 0.0144, 0.0236, 0.0269, 0.0351, 0.0494, 2.11], 7],
    ['one dear merge does not move the yardstick', [0.3, 0.4, 0.5, 0.6, 1.4], 4],
    ['what comes after a jump does not count', [0.1, 0.2, 5, 5.01, 5.02], 2],
    ['costs may fall', [0.2, 0.15, 0.16, 0.17], 4],
    ['nor is what is not finite', [0.1, 0.2, NaN], 2],
    ['nor the first', [Infinity, 1], 0],
    ['steps that were not measured share', [0.1, null, 0.3, 0.4], 4],
    ['nothing was measured', [null, null], 0],
    ['nothing was merged', [], 0],
  ])('%s', (_, values, kept) => {
    expect(elbow(values)).toBe(kept)
  })
  test('is never behind a collapse', () => {
    const steps = [0.5, 1, 1.5, 2].map((kl, i) => ({ kl, collapsed: i >= 2 }))
    expect(elbowOf(steps)).toBe(2)
    expect(elbowOf([{ kl: 3, collapsed: true }])).toBe(0)
  })
  test('of the golden plan is where the planted layers end', async () => {
    for (const remove of [8, 9, 10]) expect(elbowOf((await goldenPlan(remove)).plan.steps)).toBe(7)
    expect(elbowOf((await goldenPlan(7)).plan.steps)).toBe(7)
  })
})

describe('the curve of a plan', () => {
  const size = { width: 640, height: 100 }

  test('KL begins at nothing, with the sizes that are left and what dropping costs', async () => {
    const chart = curveChart(await goldenPlan(3), { ...size, measure: 'kl' })
    expect(chart.points.map(p => p.removed)).toEqual([0, 1, 2, 3])
    expect([chart.points[0]!.value, chart.points[0]!.y, chart.original, chart.collapse]).toEqual([0, 100, 100, null])
    expect(chart.dropped.map(p => p.removed)).toEqual([1, 2, 3])
    expect(chart.droppedPath).toMatch(/^M0,100L/)
    expect(chart.xTicks.map(tick => tick.bytes)).toEqual(
      [0, 1, 2, 3].map(k => stored.model.bytes - k * stored.model.bytes_per_layer),
    )
  })
  test('what was not measured after each step is drawn where it is known, and infinity at the top', async () => {
    const plan = await goldenPlan(3)
    const steps = plan.plan.steps.map((step, i) => ({
      ...step,
      dropped: null,
      bytes: null,
      perplexity: i === 1 ? null : Infinity,
    }))
    const chart = curveChart({ ...plan, plan: { ...plan.plan, steps } }, size)
    expect(chart.points.map(p => [p.removed, p.y === 0])).toEqual([
      [0, false],
      [1, true],
      [3, true],
    ])
    expect([chart.dropped.length, chart.droppedPath]).toEqual([1, ''])
    expect(chart.xTicks.slice(1).every(tick => tick.bytes === null)).toBe(true)
  })
})

describe('the plot', () => {
  const plot = (measure: 'perplexity' | 'kl', known = true) =>
    tradeoff(rows, {
      width: 500,
      height: 200,
      measure,
      names,
      original: known ? { perplexity: 7.312, bytes: report.bytes } : null,
    })

  test('a mark for each model that was made, inside the frame, worse ones higher', () => {
    for (const measure of ['perplexity', 'kl'] as const) {
      const { marks } = plot(measure)
      expect(marks.map(mark => mark.key)).toEqual([
        'laco 6',
        'laco 2',
        'mka 6',
        'mka 2',
        'mka-code 6',
        'mka-code 2',
        'flatten 2',
      ])
      for (const { x, y } of marks) expect(x >= 0 && x <= 500 && y >= 0 && y <= 200).toBe(true)
      const at = (key: string) => marks.find(mark => mark.key === key)!
      expect(at('laco 6').y).toBeLessThan(at('mka 6').y)
      expect(at('mka 6').x).toBeLessThan(at('mka 2').x)
    }
  })
  test('what is far above the rest is set into a strip at the top', () => {
    for (const measure of ['perplexity', 'kl'] as const) {
      const { marks, strip } = plot(measure)
      expect(marks.filter(mark => mark.above).map(mark => mark.key)).toEqual(['mka-code 6'])
      expect(strip).toBeGreaterThan(0)
      for (const mark of marks) expect(mark.above).toBe(mark.y < strip)
    }
  })
  test('models of one size stand side by side in the order of all methods, and do not reach the next', () => {
    const { marks } = plot('kl')
    const x = (key: string) => marks.find(mark => mark.key === key)!.x
    expect(x('mka 2')).toBeLessThan(x('mka-code 2'))
    expect(x('mka-code 2')).toBeLessThan(x('laco 2'))
    expect(x('laco 6')).toBeLessThan(x('mka 2'))
  })
  test('the original is a line, and there is none before it is known', () => {
    expect(plot('perplexity').original!.y).toBeGreaterThan(plot('perplexity').collapse!)
    expect(plot('kl').original!.y).toBe(200)
    expect([plot('kl', false).original, plot('perplexity', false).collapse]).toEqual([null, null])
  })
  test('sizes are named once each', () => {
    expect(plot('kl').xTicks.map(tick => tick.removed)).toEqual([0, 2, 6])
  })
  test('infinite values, a single row and none are drawn too', () => {
    const broken = { ...rows[0]!, quality: { perplexity: Infinity, kl: NaN, top1_agreement: 0, collapsed: true } }
    for (const some of [[broken], [broken, rows[1]!], [rows[0]!], []]) {
      for (const measure of ['perplexity', 'kl'] as const) {
        const { marks, yTicks } = tradeoff(some, { width: 300, height: 200, measure, names, original: null })
        expect(marks.every(mark => Number.isFinite(mark.x) && Number.isFinite(mark.y))).toBe(true)
        expect(yTicks.every(tick => Number.isFinite(tick.at))).toBe(true)
      }
    }
  })
  test('every method has a shape of its own', () => {
    expect(new Set(names.map((_, i) => markPath(i, 5))).size).toBe(names.length)
    expect(new Set(names.map((_, i) => markPath(i, 5) + markColour(i))).size).toBe(names.length)
    expect(markPath(names.length, 5)).toBe(markPath(0, 5))
  })
  test('ticks at 1, 2 and 5; text in lines', () => {
    expect(logTicks([7, 8, 9, 10, 20, 30, 40, 50, 0.2])).toEqual([10, 20, 50, 0.2])
    expect(logTicks([7, 8, 9])).toEqual([7, 8, 9])
    expect(wrapped('one two three', 100)).toEqual(['one two three'])
    expect(wrapped('some words that are too long for one line', 120).every(line => line.length <= 17)).toBe(true)
    expect(wrapped('', 100)).toEqual([])
    expect(flowed(['one', 'two'], 60).items.map(item => item.y)).toEqual([0, 22])
  })
})

describe('the order of rows', () => {
  const keys = (of: readonly CompareRow[]) => of.map(keyOfRow)

  test('is the order chosen, whatever order they came in', () => {
    expect(keys(inOrder(rows.toReversed(), options.methods, options.remove))).toEqual(keys(rows))
    expect(keys(inOrderOf(rows, null, title))).toEqual(keys(rows))
  })
  test('follows a column when asked, with failures last both ways', () => {
    const sorted = (descending: boolean) => keys(inOrderOf(rows, { column: 'perplexity', descending }, title))
    expect(sorted(false).at(-1)).toBe('flatten 6')
    expect(sorted(true).at(-1)).toBe('flatten 6')
    expect(sorted(true)[0]).toBe('mka-code 6')
    expect(sorted(false).slice(0, -1)).toEqual(sorted(true).slice(0, -1).toReversed())
  })
  test('equals keep the order chosen', () => {
    expect(keys(inOrderOf(rows, { column: 'removed', descending: false }, title))).toEqual([
      'laco 2',
      'mka 2',
      'mka-code 2',
      'flatten 2',
      'laco 6',
      'mka 6',
      'mka-code 6',
      'flatten 6',
    ])
    expect(keys(inOrderOf(rows, { column: 'method', descending: false }, title))[0]).toBe('flatten 6')
  })
  test('a third press of a heading gives the chosen order back', () => {
    const once = nextSorting(null, 'kl')
    const twice = nextSorting(once, 'kl')
    expect([once, twice, nextSorting(twice, 'kl')]).toEqual([
      { column: 'kl', descending: false },
      { column: 'kl', descending: true },
      null,
    ])
    expect(nextSorting(twice, 'bytes')).toEqual({ column: 'bytes', descending: false })
  })
  test('a warning that several rows share is said once', () => {
    const warned = rows.map(row => ({ ...row, warnings: row.method === 'mka' ? ['it is small'] : [] }))
    expect(remarksOf(warned, title)).toEqual(['MKA with 6, 2 removed: It is small.'])
  })
})

describe('files', () => {
  test('CSV: the original first, and every line says what it was measured on', () => {
    const lines = comparisonCsv(rows, { ...report, evaluation: { ...report.evaluation, name: 'a "text", mine' } })
      .trimEnd()
      .split('\n')
    expect(lines).toHaveLength(10)
    expect(lines[0]).toBe(
      'method,selection,operator,removed,layers,parameters,bytes,perplexity,kl,top1_agreement,collapsed,seconds,groups,error,evaluation,tokens_scored,calibration,seed,dtype,imatrix,prompt_per_second,generation_per_second,cache_bytes_per_1000_tokens',
    )
    expect(lines[1]).toMatch(/^original,,,0,12,578112,1156224,7\.312,,,false,,,,"a ""text"", mine",120,/)
    expect(lines[2]).toMatch(/^laco,laco,laco,6,6,/)
    expect(lines[8]).toMatch(/^flatten,pairs,flatten,6,.*"?6 disjoint pairs do not fit/)
    expect(comparisonCsv(rows, null).split('\n')).toHaveLength(10)
  })
  test('Markdown: a table, what it was measured on, and warnings', () => {
    const text = comparisonMarkdown(rows, { ...report, overlap: 0.124, cancelled: true }, title)
    expect(text).toContain('| original | 0 | 1.16 MB | 7.31 |')
    expect(text).toMatch(/\| MKA, published code \| 6 \|.*\*\*collapsed\*\* \|/)
    expect(text).toContain('failed: 6 disjoint pairs do not fit into 12 layers')
    expect(text).toContain('Stopped before the end.')
    expect(text).toContain('12 % of its tokens were seen in calibration')
    expect(text).toMatch(/Measured on built-in evaluation text .*120 tokens scored\./)
    expect(text).toContain('Seed 3.')
    expect(text).not.toContain('\u00a0')
  })
  test('marks in words', () => {
    const words = (row: CompareRow | undefined, original: number | null) =>
      readOut(row!, title, original).replaceAll('\u00a0', ' ')
    expect(words(rows[3], 7.312)).toMatch(
      /^MKA with 2 removed: perplexity 8\.\d\d \(original 7\.31\), KL 0\.\d+ nats a token, agrees on \d+ %, 974 kB\. Layers that became one: 9 10 11$/,
    )
    expect(words(rows[4], null)).toMatch(/^MKA, published code with 6 removed, collapsed: perplexity 166,\d+, KL/)
    expect(words(rows[6], null)).toBe('')
    expect(aboveScale(rows.slice(4, 5), title)).toMatch(
      /^Above the scale: MKA, published code with 6 removed \(perplexity 166,\d+, KL 11\.04.nats\)\.$/,
    )
    expect(aboveScale([], title)).toBe('')
  })
  test('an overlap is warned of, and none is not', () => {
    expect(overlapWarning(report)).toBe('')
    expect(overlapWarning({ ...report, overlap: 0.0004 })).toContain('less than 0.1')
    expect(footing(null)).toHaveLength(1)
  })
})

describe('who stays closest', () => {
  const row = (method: string, removed: number, kl: number | null, collapsed = false) =>
    ({ method, removed, quality: { perplexity: 8, kl, top1_agreement: 0.9, collapsed } }) as CompareRow
  const title = (name: string) => name.toUpperCase()

  test('one sentence for each number of layers, the best first', () => {
    const rows = [row('a', 4, 0.7), row('b', 2, 0.2), row('a', 2, 0.1), row('c', 2, 0.5), row('b', 4, 0.3)]
    expect(closestWords(rows, title)).toEqual([
      'With 2 layers removed A stays closest to the original: KL 0.10\u00a0nats. Then come B (0.20\u00a0nats) and C (0.50\u00a0nats).',
      'With 4 layers removed B stays closest to the original: KL 0.30\u00a0nats. Then come A (0.70\u00a0nats).',
    ])
  })

  test('nothing of one method, of models that collapsed or were not made', () => {
    expect(closestWords([row('a', 2, 0.1)], title)).toEqual([])
    expect(closestWords([row('a', 2, 0.1), row('b', 2, 9, true), row('c', 2, null)], title)).toEqual([])
    expect(closestWords([row('a', 2, 0.1), { ...row('b', 2, 0), quality: null }], title)).toEqual([])
    expect(closestWords([], title)).toEqual([])
  })
})

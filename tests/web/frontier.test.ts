import { beforeAll, describe, expect, test } from 'vitest'
import {
  comparisonCsv,
  comparisonMarkdown,
  footing,
  frontChoices,
  readOut,
  verdictLines,
} from '../../www/charts/comparison'
import { frontier, nearestMark } from '../../www/charts/frontier'
import { inOrder, keyOfRow } from '../../www/charts/rows'
import {
  candidatesOf,
  choiceAt,
  firstLimit,
  frontOf,
  hasFewerBits,
  limitsOf,
  originalRows,
  summaryWords,
  verdictWords,
  winnerOf,
  type SizeChoice,
  type Measured,
} from '../../www/charts/verdicts'
import type { Candidate, Verdict } from '../../www/engine/protocol/compare'
import type { Comparison } from '../../www/charts/speed'
import { titleOf } from '../../www/words/methods'
import { compareReport } from '../../www/share/checks/comparisons'
import { compareOf } from './mock/compare'
import { METHODS } from './mock/methods'
import { stored } from './stored'
import engine from './verdicts.json'

const title = (name: string) => titleOf(METHODS, name)
const names = METHODS.map(method => method.name)
const plain = (text: string) => text.replaceAll('\u00a0', ' ')
const options = {
  methods: ['laminate', 'mka'],
  remove: [2, 4],
  evaluation: { text: null, text_name: null, samples: 8, tokens: 16 },
  seed: 3,
  dtypes: ['keep', 'q8_0', 'q4_k_m', 'q2_k'] as const,
}
let report: Comparison
beforeAll(async () => {
  report = await compareOf(stored, { ...options, dtypes: [...options.dtypes] }, async () => false, stored.device)
})

describe('the verdicts of the engine', () => {
  const made = compareReport(engine.report, ['verdicts.json', ''])
  const candidates = candidatesOf(made)
  const bare = (each: Candidate | null) =>
    each && { method: each.method, dtype: each.dtype, layers: each.layers, bytes: each.bytes, kl: each.kl }
  const agree = (verdict: Verdict) => {
    const own = choiceAt(candidates, verdict.size)
    expect([bare(own.merged), bare(own.unmerged)]).toEqual([bare(verdict.merged), bare(verdict.unmerged)])
    if (!verdict.difference) return expect(own.difference).toBeNull()
    expect(own.difference!.difference).toBeCloseTo(verdict.difference.difference, 12)
    expect(own.difference!.margin).toBeCloseTo(verdict.difference.margin, 12)
  }
  const said = {
    merged: /^At most .*: [^,]* \(.*\) is better than the original/,
    unmerged: /merging does not pay/,
    equal: /equally good within the noise/,
    unknown: /cannot be told apart/,
    'only merged': /only merged models are that small/,
    'only unmerged': /no merged model is that small/,
    none: /no model is that small/,
  }

  test('are found again at any size, with the same difference and margin', () => {
    const verdicts = engine.at as Verdict[]
    expect(verdicts).toHaveLength(20)
    verdicts.forEach(agree)
    for (const verdict of verdicts) expect(verdict.sentence).toMatch(said[winnerOf(choiceAt(candidates, verdict.size))])
    // The fixture is worth something only if it holds more than one answer.
    expect(new Set(verdicts.map(verdict => winnerOf(verdict))).size).toBeGreaterThanOrEqual(4)
  })
  test('are given for the sizes of the same front', () => {
    made.verdicts!.forEach(agree)
    expect(
      frontOf(candidates)
        .filter(each => each.kl > 0)
        .map(each => each.bytes),
    ).toEqual(made.verdicts!.map(verdict => verdict.size))
    expect(frontChoices(made).map(choice => choice.size)).toEqual(made.verdicts!.map(verdict => verdict.size))
  })
})

describe('words', () => {
  const merged: Candidate = { method: 'laminate', dtype: 'q8_0', layers: 10, bytes: 600_000, kl: 0.1 }
  const unmerged: Candidate = { method: 'original', dtype: 'q4_k_m', layers: 12, bytes: 500_000, kl: 0.2 }
  const choice = (over: Partial<SizeChoice> = {}): SizeChoice => ({
    size: 700_000,
    merged,
    unmerged,
    difference: { difference: -0.1, margin: 0.02 },
    ...over,
  })
  const words = (over: Partial<SizeChoice> = {}) => plain(verdictWords(choice(over), 12, title, unmerged))

  test('of one size', () => {
    expect(words()).toBe(
      'At most 700 kB: Laminate with 10 of 12 layers in Q8_0 (600 kB, KL 0.10 nats) is better than the original in Q4_K_M (500 kB, KL 0.20 nats), by 0.10 ± 0.020 nats a token.',
    )
    expect(words({ difference: { difference: 0.1, margin: 0.02 } })).toMatch(
      /: the original in Q4_K_M .* is better than Laminate .*: merging does not pay\.$/,
    )
    expect(words({ difference: { difference: 0.01, margin: 0.02 } })).toMatch(/are equally good within the noise\.$/)
    expect(words({ difference: null })).toMatch(/cannot be told apart on so little text\.$/)
    expect(words({ unmerged: null, difference: null })).toContain(
      'only merged models are that small; the best is Laminate',
    )
    expect(words({ merged: null, difference: null, unmerged: { ...unmerged, dtype: 'keep', kl: 0 } })).toContain(
      'the best of the others is the original (500 kB, KL 0).',
    )
    expect(words({ merged: null, unmerged: null, difference: null })).toContain(
      'no model is that small; the smallest is the original in Q4_K_M',
    )
  })
  test('of all sizes: who won', () => {
    const won = choice()
    const lost = choice({ difference: { difference: 0.1, margin: 0.02 } })
    const close = choice({ difference: { difference: 0, margin: 0.02 } })
    const alone = choice({ unmerged: null, difference: null })
    expect(summaryWords([won])).toBe(
      'Fewer layers win: at the one size that was compared, a merged model loses less than the original in fewer bits.',
    )
    expect(summaryWords([lost, lost, alone])).toBe(
      'Fewer bits win: at all 2 sizes that were compared, the original in fewer bits loses less than any merged model. Merging does not pay here. At 1 size below, only merged models are that small.',
    )
    expect(summaryWords([lost, won, won, close])).toBe(
      'It depends on the size: of 4 sizes, the original in fewer bits is best at 1, a merged model at 2 and 1 is too close to call.',
    )
    expect(summaryWords([won, close])).toBe(
      'It depends on the size: of 2 sizes, a merged model is best at 1 and 1 is too close to call.',
    )
    expect(summaryWords([close, close])).toMatch(/^Neither wins: at all 2 sizes/)
    expect(summaryWords([alone])).toMatch(/^Only merged models were measured/)
    expect(summaryWords([])).toBe('')
  })
})

describe('sizes', () => {
  test('the limit goes from the smallest model to the largest, and begins where both kinds can be compared', () => {
    const candidates = candidatesOf(report)
    const { least, most, step } = limitsOf(candidates)
    const sizes = candidates.map(each => each.bytes)
    expect(most).toBe(report.bytes)
    expect(least).toBeLessThanOrEqual(Math.min(...sizes))
    expect((most - least) % step).toBe(0)
    const first = choiceAt(candidates, firstLimit(frontChoices(report), report.bytes))
    expect(first.merged && first.unmerged).toBeTruthy()
    expect(firstLimit([], 7)).toBe(7)
    expect(limitsOf([{ ...candidates[0]!, bytes: 5 }])).toEqual({ least: 5, most: 5, step: 1 })
  })
})

describe('the plot of size against KL', () => {
  const size = { width: 800, height: 340, names, collapsed: new Set<string>() }
  const of = (kl: number, bytes: number, over: Partial<Measured> = {}): Measured => ({
    key: `m ${bytes}`,
    method: 'mka',
    dtype: 'keep',
    layers: 9,
    merged: true,
    by_sequence: [],
    kl,
    bytes,
    ...over,
  })
  const itself = of(0, 1000, { key: '', method: 'original', merged: false })

  test('is logarithmic where KL spans decades, linear otherwise; the original as it is stands at 0', () => {
    const wide = frontier([itself, of(0.001, 900), of(0.5, 400)], size)
    expect(wide.logarithmic).toBe(true)
    expect(wide.marks[0]!.y).toBe(wide.zero)
    expect(wide.yTicks.map(tick => tick.value)).toContain(0.01)
    const narrow = frontier([itself, of(0.2, 900), of(0.5, 400)], size)
    expect(narrow.logarithmic).toBe(false)
    expect(narrow.marks.map(mark => mark.y)).toEqual([...narrow.marks.map(mark => mark.y)].sort((a, b) => b - a))
    // So little is none.
    expect(frontier([itself, of(1e-13, 900), of(0.5, 400)], size).marks[1]!.y).toBe(wide.zero)
  })
  test('every mark is inside, a smaller model further left, a better one lower', () => {
    const chart = frontier(candidatesOf(report), size)
    expect(chart.marks).toHaveLength(1 + 3 + 2 * 2 * 4)
    for (const { x, y, label } of chart.marks) {
      expect(x >= 0 && x <= 800 && y >= 0 && y <= 340).toBe(true)
      if (label) expect(label.x >= 0 && label.x <= 800).toBe(true)
    }
    const at = (key: string) => chart.marks.find(mark => mark.key === key)!
    expect(at('laminate 4 q4_k_m').x).toBeLessThan(at('laminate 4').x)
    expect(at('laminate 2').y).toBeGreaterThan(at('laminate 4').y)
    expect(at('original 0 q2_k').method).toBeNull()
    expect(at('laminate 2').method).toBe(names.indexOf('laminate'))
    expect(chart.x(report.bytes * 2)).toBe(chart.x(report.bytes))
  })
  test('the front is stairs through the best, down to the original', () => {
    const chart = frontier([itself, of(0.5, 400), of(0.6, 500), of(0.1, 700)], size)
    expect(chart.marks.map(mark => mark.front)).toEqual([true, true, false, true])
    expect(chart.front).toMatch(/^M[\d.]+ [\d.]+H[\d.]+V[\d.]+H[\d.]+V[\d.]+H800$/)
    expect([frontier([], size).front, frontier([], size).originals]).toEqual(['', ''])
  })
  test('labels cover neither marks nor each other, and those of the front come first', () => {
    const crowd = Array.from({ length: 40 }, (_, i) =>
      of(0.3 + 0.001 * (i % 7), 500 + i, { key: `c ${i}`, dtype: 'q4_k_m' }),
    )
    const { marks } = frontier([itself, of(0.1, 480, { key: 'best' }), ...crowd], size)
    const labels = marks.flatMap(mark => (mark.label ? [mark.label] : []))
    expect(labels.length).toBeGreaterThanOrEqual(2)
    expect(labels.length).toBeLessThan(20)
    expect(marks.find(mark => mark.key === 'best')!.label?.text).toBe('9 layers')
    const boxes = labels.map(
      ({ text, x, y, anchor }) =>
        [x - (anchor === 'start' ? 0 : anchor === 'end' ? 1 : 0.5) * text.length * 6.4, y, text.length * 6.4] as const,
    )
    for (const [i, [x, y, wide]] of boxes.entries())
      for (const [ox, oy, other] of boxes.slice(i + 1))
        expect(Math.abs(y - oy) >= 14 || x + wide <= ox || ox + other <= x).toBe(true)
  })
  test('a pointer takes the nearest mark within its reach', () => {
    const { marks } = frontier([itself, of(0.5, 400), of(0.1, 700)], size)
    expect(nearestMark(marks, marks[1]!.x + 9, marks[1]!.y - 9)?.key).toBe('m 400')
    expect(nearestMark(marks, marks[1]!.x + 60, marks[1]!.y)).toBeNull()
    expect(nearestMark([], 0, 0)).toBeNull()
  })
})

describe('rows in several types', () => {
  test('have keys of their own, and stand type after type with the original first', () => {
    const all = inOrder(
      [...report.rows, ...originalRows(report)].toReversed(),
      options.methods,
      options.remove,
      options.dtypes,
    )
    const keys = all.map(keyOfRow)
    expect(new Set(keys).size).toBe(keys.length)
    expect(keys.slice(0, 9)).toEqual([
      'laminate 2',
      'laminate 4',
      'mka 2',
      'mka 4',
      'original 0 q8_0',
      'laminate 2 q8_0',
      'laminate 4 q8_0',
      'mka 2 q8_0',
      'mka 4 q8_0',
    ])
    expect([hasFewerBits(report), hasFewerBits(null), hasFewerBits({})]).toEqual([true, false, false])
  })
  test('are named in words, CSV and Markdown, with the verdicts and the importances', () => {
    const [row] = report.rows.filter(each => each.dtype === 'q4_k_m')
    expect(readOut(row!, title, 7.3)).toMatch(/^Laminate with 2 removed in Q4_K_M: perplexity/)
    expect(readOut(originalRows(report)[0]!, title, null)).toMatch(/^the original in Q8_0: perplexity/)
    const named = { ...report, imatrix: { name: 'mine.gguf', hash: '1' } }
    const csv = comparisonCsv(report.rows, named).trimEnd().split('\n')
    expect(csv).toHaveLength(1 + 1 + 3 + 16)
    expect(csv[0]).toMatch(/,seed,dtype,imatrix,prompt_per_second,/)
    expect(csv[1]).toMatch(/,keep,mine\.gguf,,,$/)
    expect(csv[2]).toMatch(/^original,,,0,12,578112,\d+,.*,q8_0,mine\.gguf,,,$/)
    const text = comparisonMarkdown(report.rows, named, title)
    expect(text).toContain('| original | Q4_K_M | 0 |')
    expect(text).toContain('| Laminate | as it is | 2 |')
    expect(text).toContain('encoded by the importance matrix mine.gguf')
    for (const line of verdictLines(report, title)) expect(text).toContain(plain(line))
    expect(footing(report)[2]).toContain('collected on the calibration text')
    expect(footing({ ...report, output: { ...report.output!, importances: false } })[2]).toContain(
      'without importances',
    )
    expect(verdictLines({ ...report, originals: [] }, title)).toEqual([])
  })
})

import { beforeAll, describe, expect, test } from 'vitest'
import type { Cost, SharedCosts } from '../../www/charts/costs'
import { linkOf, readLink } from '../../www/share/link'
import { readResult } from '../../www/share/read'
import { reportHtml } from '../../www/share/report/html'
import { resultJson, resultOf, type Result } from '../../www/share/result'
import { METHODS } from './mock/methods'
import { goldenPlan, planOptions, stored } from './stored'

const cost = (removed: number, kl: number | null, agreement: number | null, perplexity = 7.5): Cost => ({
  removed,
  bytes: 1_200_000 - 90_000 * removed,
  perplexity,
  kl,
  agreement,
  collapsed: perplexity > 70,
})
const costs: SharedCosts = {
  method: 'laminate',
  text: 'a text that judges',
  goal: 0.95,
  whole: { layers: 12, bytes: 1_200_000, perplexity: 7.25 },
  measured: [cost(2, 0.012345678, 0.97), cost(1, 0.001, 0.99), cost(4, 0.3, 0.6), cost(8, 5, 0.1, Infinity)],
}
let result: Result
beforeAll(async () => {
  result = resultOf({
    maps: { report: stored, key: '', options: stored.options },
    plan: { report: await goldenPlan(7), key: '', options: planOptions },
    comparison: null,
    costs: { ...costs, key: 'of this page alone' },
    goal: costs.goal,
    methods: METHODS,
  })!
})

const read = (content: string) => readResult(new Blob([content]), 'x.bin')
const document = (change: (costs: Record<string, unknown>) => unknown) =>
  JSON.stringify({ ...resultJson(result), costs: change(JSON.parse(JSON.stringify(costs)) as Record<string, unknown>) })

describe('how far one can go travels', () => {
  test('in the result file and in the report, to the last digit and without the key of the page', async () => {
    expect(result.costs).toEqual(costs)
    for (const file of [JSON.stringify(resultJson(result)), reportHtml(result)])
      expect((await read(file))?.costs).toEqual(costs)
  })

  test('in a link, to four figures', async () => {
    const link = await linkOf(result)
    const back = (await readLink(link)).costs!
    expect(back).toEqual({
      ...costs,
      measured: costs.measured.map(each => ({ ...each, kl: each.removed === 2 ? 0.01235 : each.kl })),
    })
    const without = await linkOf({ ...result, costs: null })
    expect(link.length - without.length).toBeLessThan(500)
  })

  test('nothing is said of it where nothing was measured', () => {
    const none = resultOf({
      maps: { report: stored, key: '', options: stored.options },
      plan: null,
      comparison: null,
      costs: { ...costs, measured: [], key: '' },
      goal: 'jump',
      methods: METHODS,
    })!
    expect(none.costs).toBeNull()
    expect(reportHtml(none)).not.toContain('id="far"')
  })

  test('files of earlier versions, which lack it, open as they did', async () => {
    const { costs: _, ...earlier } = resultJson(result)
    const back = await read(JSON.stringify(earlier))
    expect(back?.costs).toBeNull()
    expect(back?.plan).toEqual(result.plan)
  })

  test('the report has the verdict, the numbers in order and the picture', () => {
    const html = reportHtml(result)
    const section = /<section aria-labelledby="far">[^]*?<\/section>/.exec(html)![0]
    expect(section).toContain('2 of 12 layers can go.')
    expect(section).toContain('while 95\u00a0% of next words stay the same')
    expect([...section.matchAll(/<th scope="row" data-value="(\d+)"/g)].map(match => Number(match[1]))).toEqual([
      0, 1, 2, 4, 8,
    ])
    expect([...section.matchAll(/<circle /g)]).toHaveLength(4)
    expect(section).toContain('<path class="fine"')
    expect(section).not.toMatch(/NaN|undefined/)
  })

  test('what a file calls its method and its text stays text', async () => {
    const evil = '</script><script>alert(1)</script><img src=x onerror=alert(1)>'
    const html = reportHtml({ ...result, costs: { ...costs, method: evil, text: evil } })
    expect(html).not.toContain('<script>alert')
    expect(html).not.toContain('<img')
    expect((await read(html))?.costs?.method).toBe(evil)
  })
})

describe('a curve that comes in wrong is refused by name', () => {
  const first = (of: Record<string, unknown>) => (of.measured as Record<string, unknown>[])[0]!
  test.each<[string, (of: Record<string, unknown>) => unknown, RegExp]>([
    ['no curve at all', () => 'far', /costs must be an object/],
    ['nothing measured', of => ({ ...of, measured: [] }), /costs\.measured has 0 entries and from 1 to 64/],
    [
      'more models than any run makes',
      of => ({ ...of, measured: Array.from({ length: 65 }, () => first(of)) }),
      /costs\.measured has 65 entries/,
    ],
    ['a goal of its own', of => ({ ...of, goal: 'far' }), /costs\.goal is not a finite number/],
    ['a share of more than all', of => ({ ...of, goal: 2 }), /costs\.goal is 2 and must be from 0 to 1/],
    [
      'all layers removed',
      of => ({ ...of, measured: [{ ...first(of), removed: 12 }] }),
      /costs\.measured\[0\]\.removed is 12 of 12 layers, and one has to stay/,
    ],
    [
      'one number twice',
      of => ({ ...of, measured: [first(of), first(of)] }),
      /costs\.measured\[1\]\.removed is 2, as in an entry before/,
    ],
    [
      'half a layer',
      of => ({ ...of, measured: [{ ...first(of), removed: 1.5 }] }),
      /costs\.measured\[0\]\.removed is 1\.5 and must be a whole number/,
    ],
    [
      'a size below nothing',
      of => ({ ...of, measured: [{ ...first(of), bytes: -1 }] }),
      /costs\.measured\[0\]\.bytes is -1 and must be from 0 to /,
    ],
    [
      'a word for a number',
      of => ({ ...of, measured: [{ ...first(of), kl: '0.1' }] }),
      /costs\.measured\[0\]\.kl is not a finite number/,
    ],
    [
      'more agreement than there is',
      of => ({ ...of, measured: [{ ...first(of), agreement: 1.5 }] }),
      /costs\.measured\[0\]\.agreement is 1\.5/,
    ],
    [
      'a model without bytes',
      of => ({ ...of, whole: { layers: 12, bytes: 0, perplexity: 7 } }),
      /costs\.whole\.bytes is 0 and must be from 1 to /,
    ],
    [
      'another model',
      of => ({ ...of, whole: { layers: 30, bytes: 1e6, perplexity: 7 } }),
      /costs\.whole\.layers is 30 and the model has 12 layers/,
    ],
    ['a name as long as a book', of => ({ ...of, method: 'a'.repeat(5000) }), /costs\.method is longer than 4000/],
  ])('%s', async (_, change, sentence) => {
    await expect(read(document(change))).rejects.toMatchObject({
      kind: 'format',
      message: expect.stringMatching(sentence),
    })
  })
})

import { readFileSync } from 'node:fs'
import { beforeAll, describe, expect, test } from 'vitest'
import {
  areKinds,
  areMixed,
  kindBand,
  kindCounts,
  kindLegend,
  kindSample,
  kindsOf,
  kindWords,
  LONGEST_KIND,
  MOST_KINDS,
} from '../../www/charts/kinds'
import type { SimilarityReport } from '../../www/engine/protocol/similarity'
import { readRun, runOf } from '../../www/similarity/matrix/runs'
import { mergeWords } from '../../www/similarity/matrix/words'
import { linkOf, readLink } from '../../www/share/link'
import { readResult } from '../../www/share/read'
import { reportHtml } from '../../www/share/report/html'
import { resultOf, type Result } from '../../www/share/result'
import { KINDS, mergeOf, mostAlikeOfKinds, storedKinds } from '../../www/walk/kinds'
import { goldenPlan, planOptions, stored } from './stored'

const [M, X, A] = ['Mamba', 'Mamba and experts', 'attention']
/** As in Jamba, for as many layers as the demo has. */
const LAYERS = Array.from({ length: 12 }, (_, l) => (l % 4 === 2 ? A : l % 2 ? X : M))
const PLACE = { x: 0, y: 0, from: 0, count: 12, cell: 20, thick: 8 }

describe('kinds of layers', () => {
  test('each once, in the order in which it first occurs, with its layers counted', () => {
    expect(kindsOf(LAYERS)).toEqual([
      { words: M, layers: 3 },
      { words: X, layers: 6 },
      { words: A, layers: 3 },
    ])
    expect(kindCounts(LAYERS)).toBe('3 Mamba, 6 Mamba and experts, 3 attention')
    expect([kindsOf(undefined), kindsOf([]), kindsOf([A, A])]).toEqual([[], [], []])
  })
  test('of two layers, in words, whichever comes first', () => {
    expect(kindWords(LAYERS, 3, 2)).toBe('; kinds: attention, Mamba and experts')
    expect(kindWords(LAYERS, 2, 3)).toBe(kindWords(LAYERS, 3, 2))
    expect(kindWords(LAYERS, 2, 6)).toBe('; both of one kind: attention')
    expect(kindWords(LAYERS, 4, 4)).toBe('; kind: Mamba')
    expect([kindWords(undefined, 0, 1), kindWords([A, A], 0, 1), kindWords(LAYERS, 11, 12)]).toEqual(['', '', ''])
  })
  test('what a merge of several kinds can be is said, also where the ends are of one', () => {
    expect([areMixed(LAYERS, 0, 4), areMixed(LAYERS, 0, 0), areMixed(undefined, 0, 4)]).toEqual([true, false, false])
    expect(mergeWords(3, 2, [], LAYERS)).toBe(
      'Layers of different kinds are never averaged; they can be dropped or refitted.',
    )
    expect(mergeWords(0, 4, [], LAYERS)).toMatch(
      /^They are not neighbours.* Layers of different kinds are never averaged/,
    )
    expect(mergeWords(2, 3, [], [A, A, A, A])).toBe('')
  })
})

describe('bands along the axes', () => {
  test('each piece is a run of layers of one kind; together they are the layers that are shown', () => {
    expect(
      kindBand([M, M, A, X, X, X], { ...PLACE, count: 6 }).map(({ kind, from, x, y, width, height }) => [
        kind,
        from,
        x,
        y,
        width,
        height,
      ]),
    ).toEqual([
      [0, 0, 0, 0, 40, 8],
      [1, 2, 40, 0, 20, 8],
      [2, 3, 60, 0, 60, 8],
    ])
    const part = kindBand(LAYERS, { ...PLACE, x: 3, from: 5, count: 4 })
    expect(part.map(({ kind, from, x, width }) => [kind, from, x, width])).toEqual([
      [1, 5, 3, 20],
      [2, 6, 23, 20],
      [1, 7, 43, 20],
      [0, 8, 63, 20],
    ])
    expect([kindBand(undefined, PLACE), kindBand([A, A], { ...PLACE, count: 2 })]).toEqual([[], []])
  })
  test('downwards it is the same band, turned', () => {
    const [along, down] = [kindBand(LAYERS, PLACE), kindBand(LAYERS, { ...PLACE, down: true })]
    expect(down.map(({ y, x, height, width }) => [y, x, height, width])).toEqual(
      along.map(({ x, y, width, height }) => [x, y, width, height]),
    )
    const numbers = (path: string) => path.match(/-?[\d.]+/g)?.map(Number) ?? []
    for (const [i, { lines }] of down.entries()) {
      const turned = numbers(lines).map((_, at, all) => all[at ^ 1]!)
      expect(turned).toEqual(numbers(along[i]!.lines))
    }
  })
  test('no two kinds share colour and texture, however many there are, and neighbours share neither', () => {
    const looks = Array.from({ length: MOST_KINDS }, (_, kind) => kindSample(kind))
    expect(new Set(looks.map(({ colour, lines }) => `${colour} ${lines}`)).size).toBe(MOST_KINDS)
    expect(new Set(looks.slice(0, 6).map(({ lines }) => lines)).size).toBe(6)
    expect(new Set(looks.slice(0, 6).map(({ colour }) => colour)).size).toBe(6)
  })
  test.each([0.7, 4, 20, 300])('lines stay inside of a piece of %d px', length => {
    for (let kind = 0; kind < 6; kind++) {
      const layers = Array.from({ length: 6 }, (_, l) => `kind ${l}`)
      const { x, width, lines } = kindBand(layers, { ...PLACE, count: 6, cell: length })[kind]!
      for (const [, along, across] of lines.matchAll(/[ML](-?[\d.]+) (-?[\d.]+)/g)) {
        expect([
          kind,
          Number(along) >= x - 1.01,
          Number(along) <= x + width + 1.01,
          Number(across) >= 0,
          Number(across) <= 8,
        ]).toEqual([kind, true, true, true, true])
      }
    }
  })
  test('the legend has all kinds, and wraps where it is narrow', () => {
    const [wide, narrow] = [kindLegend(LAYERS, 600), kindLegend(LAYERS, 200)]
    expect(wide.items.map(({ words }) => words)).toEqual(['Mamba (3)', 'Mamba and experts (6)', 'attention (3)'])
    expect([wide.height, narrow.height, narrow.items.map(({ x }) => x)]).toEqual([22, 66, [24, 24, 24]])
    expect(kindLegend([A, A], 600)).toEqual({ items: [], height: 0 })
  })
})

describe('a result of a model with kinds', () => {
  const model = { ...stored.model, kinds: LAYERS, experts: [4, 2] as [number, number] }
  const maps: SimilarityReport = { ...stored, model }
  let result: Result
  beforeAll(async () => {
    result = resultOf({
      maps: { report: maps, key: '', options: stored.options },
      plan: { report: await goldenPlan(2), key: '', options: planOptions },
      comparison: null,
      costs: null,
      goal: 'jump',
      methods: [],
    })!
  })
  const json = (value: unknown) => readResult(new Blob([JSON.stringify(value)]), 'x.json')
  const withKinds = (kinds: unknown) => json({ ...stored, model: { ...stored.model, kinds } })

  test('keeps them in a file, in a report and in a link', async () => {
    expect((await json(maps))?.model).toEqual(model)
    expect((await readResult(new Blob([reportHtml(result)]), 'x.html'))?.model).toEqual(model)
    const link = await linkOf(result)
    expect((await readLink(link)).model).toEqual({ ...model, files: [] })
    expect(link.length).toBeLessThan(2400)
  })
  test('without them is as valid as before', async () => {
    expect((await json(stored))?.model).toEqual(stored.model)
    expect((await withKinds([]))?.model).toEqual(stored.model)
  })
  test.each<[string, unknown, RegExp]>([
    ['too few', LAYERS.slice(1), /^x\.json: model\.kinds has 11 entries for 12 layers\.$/],
    ['too many', Array(5000).fill(A), /^x\.json: model\.kinds has 5000 entries and from 0 to 1024 are allowed\.$/],
    ['no list', 'attention', /^x\.json: model\.kinds must be a list\.$/],
    ['no words', LAYERS.with(3, 7 as never), /^x\.json: model\.kinds\[3\] must be a text\.$/],
    ['an empty word', LAYERS.with(3, ''), /^x\.json: model\.kinds\[3\] has 0 letters and must have from 1 to 80\.$/],
    [
      'a long word',
      LAYERS.with(3, 'x'.repeat(81)),
      /^x\.json: model\.kinds\[3\] has 81 letters and must have from 1 to 80\.$/,
    ],
  ])('%s: one sentence', async (_, kinds, sentence) => {
    await expect(withKinds(kinds)).rejects.toMatchObject({ kind: 'format', message: expect.stringMatching(sentence) })
  })
  test('with more kinds than look different: one sentence', async () => {
    const layers = MOST_KINDS + 1
    const one = (n: number) => Array.from({ length: layers }, () => Array.from({ length: n }, () => 1))
    const bare = {
      ...stored,
      layers,
      similarity: one(layers),
      embedding: [],
      epsilon: [],
      eigenvalues: [],
      mutual_information: [],
      block_influence: [],
    }
    await expect(
      json({
        ...bare,
        model: { ...stored.model, layers, kinds: Array.from({ length: layers }, (_, l) => `kind ${l}`) },
      }),
    ).rejects.toThrow('model.kinds names 25 kinds of layers and at most 24 are shown')
  })
  test('a report shows them along both axes and in its read-out, and what they are called stays text', () => {
    const html = reportHtml(result)
    const count = (of: string, what: RegExp) => of.match(what)?.length ?? 0
    expect(count(html, /<g class="kind"><rect/g)).toBe(2 * 12 + 3)
    expect(html).toContain('Mamba and experts (6)</li>')
    expect(html).toContain('3 Mamba, 6 Mamba and experts, 3 attention')
    expect(reportHtml({ ...result, model: stored.model, maps: stored })).not.toMatch(/class="kinds?"/)
    const evil = `</script><img src=x onerror=alert(1)>`
    const named = { ...model, kinds: LAYERS.with(0, evil) }
    expect(reportHtml({ ...result, model: named, maps: { ...maps, model: named } })).not.toContain('<img')
  })
  test('a run to compare with has them where they are right, and none otherwise', async () => {
    const run = (kinds: unknown) =>
      readRun(new File([JSON.stringify({ ...stored, model: { ...stored.model, kinds } })], 'x.json'))
    expect(runOf(maps, 'id').kinds).toEqual(LAYERS)
    expect((await run(LAYERS)).kinds).toEqual(LAYERS)
    for (const wrong of [
      undefined,
      LAYERS.slice(1),
      LAYERS.with(3, 7 as never),
      LAYERS.with(3, 'x'.repeat(LONGEST_KIND + 1)),
      'attention',
    ])
      expect((await run(wrong)).kinds).toBeUndefined()
    expect(
      areKinds(
        Array.from({ length: 30 }, (_, l) => `kind ${l}`),
        30,
      ),
    ).toBe(false)
  })
})

describe('what the walk shows of kinds', () => {
  test.each(storedKinds.map(model => [model.name, model] as const))(
    '%s: a whole matrix, and a kind for each layer',
    (_, { kinds, similarity, perplexity, parameters, experts }) => {
      const n = kinds.length
      expect(similarity.map(row => row.length)).toEqual(Array.from({ length: n }, (_, l) => l + 1))
      for (const [l, row] of similarity.entries()) {
        expect(row[l]).toBe(1)
        expect(row.every(value => value >= 0 && value <= 1)).toBe(true)
      }
      expect(kinds.every(kind => /^(attention|Mamba)( and experts)?$/.test(kind))).toBe(true)
      expect(experts).toEqual([4, 2])
      // A model that has learned nothing has the perplexity of its vocabulary, 512.
      expect([perplexity < 64, parameters > 1e6]).toEqual([true, true])
    },
  )
  test('the kinds are those of their architectures', () => {
    const [jamba, mixtral] = storedKinds
    expect(jamba!.kinds).toEqual(LAYERS)
    expect([...new Set(mixtral!.kinds)]).toEqual(['attention and experts'])
    expect(KINDS).toEqual([M, X, A, 'attention and experts'])
  })
  test('no two layers of one kind of the Jamba are as alike as two of two kinds, as the step says', () => {
    const [jamba] = storedKinds
    const [apart, alike] = [false, true]
      .map(ofOneKind => mostAlikeOfKinds(jamba!, ofOneKind)!)
      .map(([first, second]) => jamba!.similarity[second]![first]!)
    expect(apart).toBeGreaterThan(alike!)
  })
  test('is small', () => expect(readFileSync('www/walk/kinds.json').length).toBeLessThan(4000))
  test('the pairs that are offered', () => {
    const model = { kinds: [M, A, M, A], similarity: [[1], [0.5, 1], [0.9, 0.6, 1], [0.3, 0.2, 0.7, 1]] }
    expect([mostAlikeOfKinds(model, true), mostAlikeOfKinds(model, false)]).toEqual([
      [0, 2],
      [2, 3],
    ])
    expect(mostAlikeOfKinds({ ...model, kinds: [A, A, A, A] }, false)).toBeNull()
  })
  test('what could become of two layers', () => {
    expect(mergeOf(M, A)).toMatch(/^Two kinds\. Mamba has no queries/)
    expect(mergeOf(M, X)).toMatch(/^Two kinds\. One has a single MLP/)
    expect(mergeOf(X, X)).toMatch(/^One kind\. Everything but the experts/)
    expect(mergeOf(A, A)).toMatch(/can be averaged\.$/)
  })
})

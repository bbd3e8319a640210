import { beforeAll, describe, expect, test } from 'vitest'
import { matrixCsv } from '../../www/charts/export'
import type { Candidate } from '../../www/engine/protocol/compare'
import type { Comparison } from '../../www/charts/speed'
import type { PlanReport } from '../../www/engine/protocol/plan'
import { linkOf } from '../../www/share/link'
import { arrayOf, npyFile } from '../../www/figures/npy'
import { readResult } from '../../www/share/read'
import { reportHtml } from '../../www/share/report/html'
import { recipeOf, resultJson, resultOf, withoutPieces, type Result } from '../../www/share/result'
import { compareOf } from './mock/compare'
import { METHODS } from './mock/methods'
import { goldenPlan, planOptions, stored } from './stored'

let plan: PlanReport
let comparison: Comparison
let result: Result
beforeAll(async () => {
  plan = await goldenPlan(7)
  comparison = await compareOf(
    stored,
    {
      methods: ['mka', 'pruneme', 'flatten'],
      remove: [2, 6],
      evaluation: { text: null, text_name: null, samples: 8, tokens: 16 },
      seed: 3,
    },
    async () => false,
    stored.device,
  )
  result = resultOf({
    maps: { report: stored, key: '', options: stored.options },
    plan: { report: plan, key: '', options: planOptions },
    comparison: {
      report: comparison,
      key: '',
      options: {
        methods: [],
        remove: [],
        evaluation: { text: null, text_name: null, samples: 1, tokens: 4 },
        seed: 0,
      },
    },
    costs: null,
    goal: 'jump',
    methods: METHODS,
  })!
})

/** What the page reads of a file; its name decides nothing. */
const read = (content: BlobPart, name = 'x.bin') => readResult(new Blob([content]), name)
const json = (value: unknown) => read(JSON.stringify(value))
/** As the engine prints it: no text, and what is too large for a number is null. */
const printed = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T

const bare = (each: Candidate | null) =>
  each && { method: each.method, dtype: each.dtype, layers: each.layers, bytes: each.bytes, kl: each.kl }

describe('every export is read back, whatever its file is called', () => {
  test('similarity.json, as the command line prints it too', async () => {
    const { text: _, ...options } = stored.options
    const found = await json({ ...stored, options })
    expect(printed(found?.maps)).toEqual({ ...printed(stored), options: { ...printed(options), text: null } })
    expect(found?.notes).toEqual([])
  })
  test('CSV and NPY of the matrix', async () => {
    for (const file of [matrixCsv(stored.similarity), npyFile(arrayOf(stored.similarity))]) {
      const found = await read(file)
      expect(found?.maps?.similarity).toEqual(stored.similarity)
      expect([found?.model.name, found?.model.layers, found?.maps?.embedding, found?.maps?.perplexity]).toEqual([
        'x.bin',
        12,
        [],
        NaN,
      ])
      expect(found?.notes.join()).toContain('the matrix alone')
    }
  })
  test('merge.json, compare.json, the recipe', async () => {
    expect(printed((await json(plan))?.plan)).toEqual(printed(plan))
    expect(printed((await json(comparison))?.comparison)).toEqual({ ...printed(comparison) })
    const typed = await compareOf(
      stored,
      {
        methods: ['mka'],
        remove: [2],
        evaluation: { text: null, text_name: null, samples: 4, tokens: 16 },
        seed: 3,
        dtypes: ['keep', 'q4_k_m'],
      },
      async () => false,
      stored.device,
    )
    const named = { ...typed, imatrix: { name: 'mine.gguf', hash: 'ab' } }
    expect(named.originals).toHaveLength(1)
    expect(named.verdicts!.length).toBeGreaterThan(0)
    expect(printed((await json(named))?.comparison)).toEqual(
      printed({
        ...named,
        verdicts: named.verdicts!.map(({ merged, unmerged, ...rest }) => ({
          ...rest,
          merged: bare(merged),
          unmerged: bare(unmerged),
        })),
      }),
    )
    expect((await json(comparison))?.methods.map(method => method.name)).toEqual(['mka', 'pruneme', 'flatten'])
    const recipe = await json(recipeOf(result))
    expect(recipe?.plan?.plan).toEqual(printed(plan.plan))
    const [imatrix, output] = [
      { name: 'mine.gguf', hash: 'ab' },
      { ...plan.output, pack: 'int4-g32' as const },
    ]
    const again = await json(recipeOf({ ...result, plan: { ...plan, imatrix, output } }))
    expect([again?.plan?.imatrix, again?.plan?.output.pack]).toEqual([imatrix, 'int4-g32'])
    expect((await json({ ...plan, imatrix }))?.plan?.imatrix).toEqual(imatrix)
    await expect(json({ ...plan, imatrix: { name: 7 } })).rejects.toThrow(/imatrix/)
    expect([recipe?.options, recipe?.model.name]).toEqual([planOptions, 'stories-planted-12L'])
  })
  test('what the command line prints of a compression', async () => {
    const {
      plan: { steps, groups },
      ...rest
    } = plan
    const found = await json({
      ...rest,
      recipe: recipeOf(result),
      steps,
      groups,
      collapsed: false,
      files: [{ name: 'model.safetensors', bytes: 3 }],
      layers: undefined,
      output: undefined,
    })
    expect(printed(found?.plan)).toEqual(printed(plan))
    expect(found?.model.name).toBe('stories-planted-12L')
  })
  test('the whole result, as JSON, in a report and in a link', async () => {
    const whole = printed({ ...result, maps: { ...result.maps, options: { ...printed(stored.options), text: null } } })
    expect(printed(await json(resultJson(result)))).toEqual(whole)
    expect(printed(await read(reportHtml(result)))).toEqual(whole)
    const linked = await read(`  https://example.org/${await linkOf(result)}\n`)
    expect(linked?.plan?.plan.groups).toEqual(plan.plan.groups)
    expect((await read(reportHtml(withoutPieces(result))))?.maps?.point_list).toEqual([])
  })
})

describe('a part of a model is none of it', () => {
  test.each([
    ['config.json', '{"model_type":"llama","num_hidden_layers":2}'],
    ['tokenizer.json', '{"model":{"vocab":{"plan":1,"rows":2}}}'],
    ['a list', '[1]'],
    ['GGUF', 'GGUF\x03\0\0\0'],
    ['words', 'see the plan'],
    ['a table', 'a,b\n1,2\n'],
    ['nothing', ''],
  ])('%s', async (_, content) => expect(await read(content)).toBeNull())
})

describe('every way to be wrong has a sentence', () => {
  const like = (change: (report: Record<string, unknown>) => void) => {
    const copy = structuredClone(stored) as unknown as Record<string, unknown>
    change(copy)
    return json(copy)
  }
  const at = (l: number, m: number, value: unknown) =>
    like(report => {
      ;(report.similarity as unknown[][])[l]![m] = value
    })
  test.each<[string, () => Promise<unknown>, RegExp]>([
    ['half a JSON', () => read('{"similarity": [[1,'), /^x\.bin is damaged: what it holds is not valid JSON\./],
    ['a hole', () => at(3, 4, null), /^x\.bin: similarity\[3\]\[4\] is not a finite number\.$/],
    [
      'a word',
      () => at(3, 4, '<img src=x onerror=alert(1)>'),
      /^x\.bin: similarity\[3\]\[4\] is not a finite number\.$/,
    ],
    [
      'two halves',
      () => at(3, 4, 0.111),
      /^x\.bin: similarity\[3\]\[4\] is 0\.111 and similarity\[4\]\[3\] is .*: the matrix is not symmetric\.$/,
    ],
    ['beyond 1', () => at(5, 5, 1.5), /^x\.bin: similarity\[5\]\[5\] is 1\.5 and must be from 0 to 1\.$/],
    [
      'a short row',
      () => like(report => (report.similarity as unknown[][])[2]!.pop()),
      /^x\.bin: similarity\[2\] has 11 entries and 12 are needed\.$/,
    ],
    [
      'a missing row',
      () => like(report => (report.similarity as unknown[]).pop()),
      /^x\.bin: similarity has 11 entries and 12 are needed\.$/,
    ],
    [
      'a map with fewer points',
      () => like(report => (report.embedding as unknown[][])[2]!.pop()),
      /^x\.bin: embedding\[2\] has 127 entries and 128 are needed\.$/,
    ],
    [
      'too many layers',
      () =>
        like(report => {
          report.layers = 5000
        }),
      /^x\.bin: layers is 5000 and must be from 1 to 1024\.$/,
    ],
    [
      'half a layer',
      () =>
        like(report => {
          report.layers = 1.5
        }),
      /^x\.bin: layers is 1\.5 and must be a whole number\.$/,
    ],
    [
      'another metric',
      () =>
        like(report => {
          report.metric = 'luck'
        }),
      /^x\.bin: metric must be one of mi, /,
    ],
    [
      'no model',
      () =>
        like(report => {
          delete report.model
        }),
      /^x\.bin: model must be an object\.$/,
    ],
    [
      'a novel as a name',
      () =>
        like(report => {
          ;(report.model as { name: string }).name = 'a'.repeat(5000)
        }),
      /^x\.bin: model\.name is longer than 4000 letters\.$/,
    ],
    [
      'a page of somebody else',
      () => read('<!doctype html><p>Hello'),
      /^x\.bin is a web page and not a report of Laminate\./,
    ],
    ['half a report', () => read(reportHtml(result).slice(0, -30_000)), /^x\.bin is damaged/],
    [
      'a newer result',
      () => json({ ...resultJson(result), form: 2, laminate: '7.0' }),
      /^x\.bin: it was made by a newer Laminate \(7\.0\); reload this page/,
    ],
    [
      'an empty result',
      () => json({ laminate: '0.1.0', form: 1, similarity: null, plan: null }),
      /^x\.bin: it holds no result\.$/,
    ],
    [
      'a plan of another model',
      () =>
        json({
          ...resultJson(result),
          similarity: {
            ...stored,
            layers: 1,
            model: { ...stored.model, layers: 1 },
            similarity: [[1]],
            embedding: [],
            epsilon: [],
            eigenvalues: [],
            mutual_information: [],
            block_influence: [],
          },
        }),
      /^x\.bin: plan\.n_layers is 12 and the similarities are of 1 layers\.$/,
    ],
    [
      'layers that are in no group',
      () => json({ ...plan, plan: { ...plan.plan, groups: plan.plan.groups.slice(1), steps: [] } }),
      /^x\.bin: plan\.groups must hold the layers 0 to 11, each once and in order\.$/,
    ],
    [
      'weights beside the plan',
      () => json({ ...plan, plan: { ...plan.plan, weights: plan.plan.weights.map(each => each.map(() => 1)) } }),
      /^x\.bin: plan\.weights\[1\] adds up to 3 and not to 1\.$/,
    ],
    [
      'steps that lead elsewhere',
      () => json({ ...plan, plan: { ...plan.plan, steps: plan.plan.steps.slice(1) } }),
      /^x\.bin: plan\.(steps\[\d\]|groups) /,
    ],
    [
      'an array of one axis',
      () => read(npyFile(arrayOf([1, 2]))),
      /^x\.bin holds an array of the shape \(2\), and a similarity matrix has as many rows as columns\./,
    ],
    [
      'an array with a hole',
      () =>
        read(
          npyFile(
            arrayOf([
              [1, NaN],
              [NaN, 1],
            ]),
          ),
        ),
      /^x\.bin: similarity\[0\]\[1\] is not a finite number\.$/,
    ],
    [
      'too large',
      () => readResult({ size: 1e9, slice: () => new Blob(['<!doctype html>']) } as unknown as Blob, 'x.html'),
      /^x\.html has 1000 MB, and results of up to 64 MB are read\./,
    ],
  ])('%s', async (_, reading, sentence) => {
    await expect(reading()).rejects.toMatchObject({
      kind: expect.stringMatching(/format|limit/),
      message: expect.stringMatching(sentence),
    })
  })
  test('options that this page does not know go out as they came in, unless they could hold anything', async () => {
    const recipe = recipeOf(result)!
    const newer = {
      ...recipe,
      calibration: { ...recipe.calibration, cut: 'spread', odd: { deep: 1 } },
      options: { ...planOptions, locked: [1, 2], longest_run: null, words: ['<b>'] },
    }
    const again = recipeOf((await json(newer))!)!
    expect(again.options).toEqual({ ...planOptions, locked: [1, 2], longest_run: null })
    const maps = (await json({ ...stored, options: newer.calibration }))!.maps!
    expect(maps.options).toMatchObject({ cut: 'spread', text: null })
    expect(maps.options).not.toHaveProperty('odd')
  })
  test('experts that were removed come in and go out', async () => {
    const kept_experts = Array.from({ length: 12 }, () => [0, 2])
    const experts = [
      { layer: 0, removed: [1, 3], share: 0.125 },
      { layer: 10, removed: [1, 3], share: null },
    ]
    const report = { ...plan, experts, plan: { ...plan.plan, kept_experts } }
    for (const found of [
      await json(report),
      await read(await linkOf({ ...result, plan: report }).then(link => `https://example.org/${link}`)),
    ]) {
      expect(found?.plan?.plan.kept_experts).toEqual(kept_experts)
      expect(found?.plan?.experts).toEqual(experts)
    }
    await expect(json({ ...report, plan: { ...report.plan, kept_experts: [[0]] } })).rejects.toMatchObject({
      message: 'x.bin: plan.kept_experts has 1 entries for 12 layers.',
    })
    await expect(json({ ...report, experts: [{ layer: 0, removed: [1], share: 2 }] })).rejects.toMatchObject({
      kind: 'format',
    })
  })
  test('which parts of the text: the first in results of earlier versions, and what is no draw is refused', async () => {
    const { draw: _, ...earlier } = stored.options
    expect((await json({ ...stored, options: earlier }))?.maps?.options.draw).toBe('first')
    for (const draw of ['first', 'spread', 'random:17']) {
      const maps = { ...stored, options: { ...stored.options, draw } } as typeof stored
      expect((await json(maps))?.maps?.options.draw).toBe(draw)
      expect(
        (await read(await linkOf({ ...result, maps }).then(link => `https://example.org/${link}`)))?.maps?.options.draw,
      ).toBe(draw)
      expect(recipeOf({ ...result, maps })!.calibration.draw).toBe(draw)
    }
    for (const draw of ['last', 'random:', 'random:-1', 7])
      await expect(json({ ...stored, options: { ...stored.options, draw } })).rejects.toMatchObject({
        message: 'x.bin: options.draw must be like first, spread or random:1.',
      })
  })
  test('what is not asked for is not taken', async () => {
    const found = await read(`{"__proto__": {"x": 1}, "extra": 2, ${JSON.stringify(stored).slice(1)}`)
    expect(Object.keys(found?.maps ?? {})).not.toContain('extra')
    expect(({} as Record<string, unknown>).x).toBeUndefined()
  })
})

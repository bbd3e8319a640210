import { describe, expect, test } from 'vitest'
import type { MergePlan, PlanReport } from '../../www/engine/protocol/plan'
import type { SimilarityReport } from '../../www/engine/protocol/similarity'
import { verdictLines } from '../../www/charts/comparison'
import type { NumberType } from '../../www/engine/protocol/output'
import { makingOf } from '../../www/words/methods'
import { linkOf, LONGEST, readLink, tolerance } from '../../www/share/link'
import { crc32, packed } from '../../www/share/packed'
import { recipeOf, resultOf, type Result } from '../../www/share/result'
import { compareOf } from './mock/compare'
import { METHODS } from './mock/methods'
import { fittedPlan, goldenPlan, planOptions, stored } from './stored'

const half = tolerance(0, 1)

async function demo(remove: number): Promise<Result> {
  const report = await goldenPlan(remove)
  return resultOf({
    maps: { report: stored, key: '', options: stored.options },
    plan: { report, key: '', options: planOptions },
    comparison: null,
    costs: null,
    goal: 'jump',
    methods: METHODS,
  })!
}

/** Noise, which does not compress, and as many merges as there can be. */
function deep(layers: number): Result {
  let seed = 1
  const random = () => (seed = (seed * 48_271) % 0x7fffffff) / 0x7fffffff
  const lower = Array.from({ length: layers }, (_, l) =>
    Array.from({ length: l + 1 }, (_, m) => (m === l ? 1 : random())),
  )
  const similarity = lower.map((_, l) => lower.map((_, m) => lower[Math.max(l, m)]![Math.min(l, m)]!))
  const maps: SimilarityReport = {
    ...stored,
    layers,
    model: { ...stored.model, layers },
    similarity,
    embedding: [],
    epsilon: [],
    eigenvalues: [],
    mutual_information: [],
    block_influence: similarity.map(random),
  }
  const plan: MergePlan = {
    n_layers: layers,
    operator: 'average',
    steps: [],
    groups: similarity.map((_, l) => [l]),
    weights: similarity.map(() => [1]),
  }
  const quality = () => ({ perplexity: 7 + 1000 * random(), kl: random(), top1_agreement: random(), collapsed: false })
  for (let k = layers - 1; k > 0; k--) {
    const l = Math.floor(random() * k)
    const alpha = random()
    const [a, b] = [plan.groups[l]!, plan.groups[l + 1]!]
    plan.groups.splice(l, 2, [...a, ...b])
    plan.weights.splice(l, 2, [
      ...plan.weights[l]!.map(w => w * alpha),
      ...plan.weights[l + 1]!.map(w => w * (1 - alpha)),
    ])
    plan.steps.push({
      merged: [l, l + 1],
      groups: [a, b],
      alpha,
      similarity: random(),
      layers: k,
      ...quality(),
      dropped: quality(),
      bytes: Math.floor(1e9 * random()),
    })
  }
  const report: PlanReport = {
    plan,
    text: stored.text,
    original: { perplexity: 6.7, kl: null, top1_agreement: null, collapsed: false },
    merged: quality(),
    dropped: quality(),
    warnings: [],
    output: { dtype: 'keep', max_shard_bytes: 5e9, container: 'gguf' },
    layers: { before: layers, after: 1 },
    parameters: { before: 9, after: 5 },
    bytes: { before: 9, after: 5 },
    device: stored.device,
    seconds: 1,
    peak_memory_bytes: 1,
  }
  return {
    model: maps.model,
    maps,
    plan: report,
    options: planOptions,
    comparison: null,
    costs: null,
    methods: [],
    created: '',
    notes: [],
  }
}

describe('a link', () => {
  test('carries a plan whose steps are not measured: no hole is filled', async () => {
    const [result, plan] = [await demo(7), await fittedPlan(7)]
    const laminate = METHODS.find(method => method.name === 'laminate')!
    const options = { ...planOptions, ...makingOf(laminate) }
    const back = await readLink(await linkOf({ ...result, plan, options, methods: METHODS }))
    expect(
      back.plan!.plan.steps.map(step => [step.perplexity === null, step.kl === null, step.dropped === null]),
    ).toEqual([...Array(6).fill([true, true, true]), [false, false, false]])
    expect([back.plan!.text, back.plan!.merged, back.options, back.methods]).toEqual([
      plan.text,
      plan.merged,
      options,
      [laminate],
    ])
  })
  test('carries a comparison in several types where there is room, with the same verdicts', async () => {
    const evaluation = { text: null, text_name: null, samples: 32, tokens: 16 }
    const options = {
      methods: ['laminate', 'mka'],
      remove: [1, 2, 3, 4],
      evaluation,
      seed: 3,
      dtypes: ['keep', 'q8_0', 'q4_k_m', 'q3_k_m', 'q2_k'] as NumberType[],
    }
    const comparison = await compareOf(stored, options, async () => false, stored.device)
    const [whole, imatrix] = [await demo(7), { name: 'mine.gguf', hash: 'ab' }]
    const result = { ...whole, plan: { ...whole.plan!, imatrix }, comparison: { ...comparison, imatrix } }
    const link = await linkOf(result)
    expect(link.length).toBeLessThan(LONGEST)
    const back = await readLink(link)
    expect(back.comparison!.rows.map(row => [row.method, row.removed, row.dtype, row.bytes])).toEqual(
      comparison.rows.map(row => [row.method, row.removed, row.dtype, row.bytes]),
    )
    expect([back.plan!.imatrix, back.comparison!.imatrix, recipeOf(back)!.imatrix]).toEqual([imatrix, imatrix, imatrix])
    expect(back.comparison!.originals!.map(each => each.dtype)).toEqual(options.dtypes.slice(1))
    const title = (name: string) => name
    expect(verdictLines(back.comparison!, title)[0]).toEqual(verdictLines(comparison, title)[0])
    expect(verdictLines(back.comparison!, title)).toHaveLength(verdictLines(comparison, title).length)
    expect(back.methods.map(method => method.name).sort()).toEqual(['laminate', 'mka'])
    expect(back.notes.at(-1)).toContain('and not the maps; a report has them')
    // One that is too long is left out, and the link is as before.
    const long = {
      ...comparison,
      rows: Array.from({ length: 800 }, (_, i) => ({
        ...comparison.rows[0]!,
        removed: i + 1,
        kl_by_sequence: Array.from({ length: 32 }, (_, j) => Math.sin(i * 37 + j * 11) ** 2),
      })),
    }
    const without = await linkOf({ ...result, comparison: long })
    expect(without.length).toBeLessThan(2300)
    expect((await readLink(without)).notes.at(-1)).toContain('neither the maps nor a comparison of methods')
  })
  test('carries the matrix to half a step, and the recipe', async () => {
    const result = await demo(7)
    const link = await linkOf(result)
    expect(link).toMatch(/^#result=1\.[\w-]+$/)
    expect(link.length).toBeLessThan(2200)
    const back = await readLink(`https://example.org/laminate/${link}`)
    expect(half).toBeLessThan(8e-6)
    for (const [l, row] of stored.similarity.entries())
      row.forEach((value, m) =>
        expect(Math.abs(back.maps!.similarity[l]![m]! - value)).toBeLessThanOrEqual(half + 1e-15),
      )
    expect(back.model).toEqual({ ...stored.model, files: [] })
    expect([back.maps!.metric, back.maps!.text, back.maps!.options.samples]).toEqual(['mi', stored.text, 128])
    expect(back.maps!.perplexity).toBeCloseTo(stored.perplexity, 5)
    const [recipe, original] = [recipeOf(back)!, recipeOf(result)!]
    expect(recipe.plan.groups).toEqual(original.plan.groups)
    expect(recipe.options).toEqual(original.options)
    recipe.plan.weights.flat().forEach((weight, i) => expect(weight).toBeCloseTo(original.plan.weights.flat()[i]!, 8))
    expect(recipe.plan.steps.map(step => [step.merged, step.groups, step.layers, step.collapsed])).toEqual(
      original.plan.steps.map(step => [step.merged, step.groups, step.layers, step.collapsed]),
    )
    recipe.plan.steps.forEach((step, i) => expect(step.perplexity).toBeCloseTo(original.plan.steps[i]!.perplexity!, 3))
    expect(back.plan!.original).toEqual(result.plan!.original)
    expect(back.notes.join()).toContain('to within 0.000008')
  })

  test('carries no text, no pieces of one, and no file names', async () => {
    const result = await demo(1)
    result.maps!.options = { ...result.maps!.options, text: 'my secret' }
    const { maps } = await readLink(await linkOf(result))
    expect([maps!.options.text, maps!.point_list, maps!.model.files]).toEqual([null, [], []])
    expect(JSON.stringify(recipeOf(result))).not.toContain('my secret')
  })

  test('of cosines keeps what is below 0', async () => {
    const result = await demo(1)
    result.maps = {
      ...result.maps!,
      metric: 'cosine',
      similarity: stored.similarity.map((row, l) => row.map((value, m) => (l === m ? 1 : value - 1))),
    }
    const { maps } = await readLink(await linkOf(result))
    expect(Math.abs(maps!.similarity[3]![1]! - result.maps.similarity[3]![1]!)).toBeLessThanOrEqual(
      tolerance(-1, 1) + 1e-15,
    )
  })

  test('of 128 layers of noise and 127 merges is still under 32 kB', async () => {
    const result = deep(128)
    const link = await linkOf(result)
    expect(link.length).toBeLessThan(LONGEST)
    const back = await readLink(link)
    expect(Math.abs(back.maps!.similarity[100]![7]! - result.maps!.similarity[100]![7]!)).toBeLessThanOrEqual(
      half + 1e-15,
    )
    expect(back.plan!.plan.groups).toEqual(result.plan!.plan.groups)
  })

  test('that would be too long is refused with its length', async () => {
    await expect(linkOf(deep(200))).rejects.toThrow(
      /^The link of these 200 layers would be \d\d,\d{3} characters long, and more than 32,000 do not travel well\. Save the report instead\.$/,
    )
  })
})

describe('a link that is not what it was', () => {
  const letters = async () => (await linkOf(await demo(7))).split('.')[1]!
  test('any part of it missing', async () => {
    const good = await letters()
    for (const keep of [0, 1, 5, 200, good.length - 1])
      await expect(readLink(`#result=1.${good.slice(0, keep)}`)).rejects.toThrow(
        /^The link is damaged: a part of it is missing or was changed/,
      )
  })
  test('any letter changed', async () => {
    const good = await letters()
    for (let at = 0; at < good.length; at += 37) {
      const bad = good.slice(0, at) + (good[at] === 'A' ? 'B' : 'A') + good.slice(at + 1)
      await expect(readLink(`#result=1.${bad}`)).rejects.toThrow(/^The link is damaged/)
    }
  })
  test('letters that no link has', () => expect(readLink('#result=1.<script>')).rejects.toThrow(/^The link is damaged/))
  test('no version', () => expect(readLink('#result=')).rejects.toThrow(/does not say what it holds/))
  test('a newer version', async () =>
    expect(readLink(`#result=2.${await letters()}`)).rejects.toThrow(
      /^The link was made by a newer Laminate \(its form is 2, and this page reads up to 1\)/,
    ))
  test('too long, with its length', () =>
    expect(readLink(`#result=1.${'A'.repeat(300_000)}`)).rejects.toThrow(/^The link is 300,010 characters long/))
  test('a bomb', async () =>
    expect(readLink(`#result=1.${await packed(new Uint8Array(5_000_000))}`)).rejects.toThrow(
      /unpacks to more than 4 MB/,
    ))

  const forged = async (header: unknown, values: number) => {
    const json = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header))
    const bytes = new Uint8Array(4 + json.length + values)
    new DataView(bytes.buffer).setUint32(0, json.length, true)
    bytes.set(json, 4)
    return `#result=1.${await packed(bytes)}`
  }
  const maps = {
    ...stored,
    similarity: undefined,
    embedding: [],
    point_list: [],
    eigenvalues: [],
    epsilon: [],
    mutual_information: [],
  }
  const document = { laminate: '0.1.0', form: 1, similarity: maps, plan: null }
  test.each<[string, unknown, number, RegExp]>([
    ['no JSON', '{', 0, /what it holds is not a result/],
    ['no matrix', { ...document, similarity: null }, 0, /what it holds is not a result/],
    ['too few values', document, 5, /what it holds is not a result/],
    ['millions of layers', { ...document, similarity: { ...maps, layers: 1e9 } }, 0, /what it holds is not a result/],
    [
      'a name that is none',
      { ...document, similarity: { ...maps, model: { ...maps.model, name: {} } } },
      156,
      /^The link: similarity\.model\.name must be a text\./,
    ],
    [
      'another depth of the model',
      { ...document, similarity: { ...maps, model: { ...maps.model, layers: 3 } } },
      156,
      /^The link: model\.layers is 3 and layers 12\./,
    ],
    ['a newer form', { ...document, form: 2, laminate: '9.0' }, 156, /was made by a newer Laminate \(9\.0\)/],
  ])('forged: %s', async (_, header, values, sentence) =>
    expect(readLink(await forged(header, values))).rejects.toThrow(sentence),
  )
  test('forged: a plan that is none', async () => {
    const plan = {
      plan: {
        n_layers: 12,
        operator: 'average',
        merged: [11],
        alpha: [0.5],
        similarity: [0.5],
        perplexity: [],
        kl: [],
        top1_agreement: [],
        bytes: [],
        collapsed: [],
        dropped: [],
        sizes: [12],
        weights: [[1]],
      },
    }
    await expect(readLink(await forged({ ...document, plan }, 156))).rejects.toThrow(/^The link: plan\./)
  })
})

test('the checksum is the one that everybody knows', () =>
  expect(crc32(new TextEncoder().encode('123456789'))).toBe(0xcbf43926))

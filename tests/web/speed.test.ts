import { beforeEach, describe, expect, test, vi } from 'vitest'
import type { Actions } from '../../www/app/actions'
import {
  comparisonCsv,
  comparisonMarkdown,
  footing,
  namedModels,
  readOut,
  verdictLines,
} from '../../www/charts/comparison'
import { inOrderOf } from '../../www/charts/rows'
import { cacheBytes, fasterWords, hasEvenHeads, measuredWords, speedOf, within } from '../../www/charts/speed'
import { candidatesOf, frontOf, originalRows, verdictWords, type SizeChoice } from '../../www/charts/verdicts'
import type { Calls } from '../../www/engine/messages'
import type { Candidate } from '../../www/engine/protocol/compare'
import type { Comparison, Speeds } from '../../www/charts/speed'
import { titleOf } from '../../www/words/methods'
import { compareReport } from '../../www/share/checks/comparisons'
import { State, type Run } from '../../www/app/state.svelte'
import { inRounds, lengthsFor, type Pace, type Timing } from '../../www/try/rounds'
import { measureBoth, measureFront, MOST_BYTES, timeable, tooLarge } from '../../www/try/speed'
import { MemoryDirectory } from './memory'
import { compareOf } from './mock/compare'
import { METHODS } from './mock/methods'
import { goldenPlan, planOptions, stored } from './stored'

const title = (name: string) => titleOf(METHODS, name)
const plain = (text: string) => text.replaceAll('\u00a0', ' ')

describe('the cache of 1000 tokens', () => {
  const model = { kv_heads: 3, head_dim: 64, sliding_window: null }
  const layers = (n: number) => Array.from({ length: n }, (_, layer) => layer)

  test('is layers × keys and values × heads × width × 1000 tokens × 2 bytes', () => {
    // SmolLM2-135M: 30 layers with 3 key and value heads of width 64. llama.cpp allocates 11.25 MiB for 512 tokens, 23.04 kB each.
    expect(cacheBytes(model, layers(30))).toBe(23_040_000)
    expect(cacheBytes(model, layers(26)) / cacheBytes(model, layers(30))).toBeCloseTo(26 / 30, 12)
    expect(cacheBytes(model, [])).toBe(0)
  })
  test('ends at the window of a layer that has one', () => {
    expect(cacheBytes({ ...model, sliding_window: 512 }, layers(2))).toBe(2 * 2 * 3 * 64 * 512 * 2)
    expect(cacheBytes({ ...model, sliding_window: 4096 }, layers(2))).toBe(2 * 2 * 3 * 64 * 1000 * 2)
    const kinds = [
      'attention with a window',
      'attention',
      'attention with a window and experts',
      'attention without positions',
    ]
    const token = 2 * 3 * 64 * 2
    expect(cacheBytes({ ...model, sliding_window: 128, kinds }, layers(4))).toBe(token * (128 + 1000 + 128 + 1000))
    expect(cacheBytes({ ...model, sliding_window: 128, kinds }, [0, 2])).toBe(token * 256)
  })
  test('is nothing in recurrent layers and in those that read the keys of others', () => {
    const kinds = [
      'Mamba',
      'attention and experts',
      'delta net',
      'short convolution',
      'attention on the keys of another layer',
      'Mamba and experts',
    ]
    expect(cacheBytes({ ...model, kinds }, layers(6))).toBe(2 * 3 * 64 * 2 * 1000)
  })
  test('is told only where all heads are alike', () => {
    expect(hasEvenHeads({ 'llama.attention.head_count_kv': '3', 'llama.attention.key_length': '64' })).toBe(true)
    expect(hasEvenHeads({ 'jamba.attention.head_count_kv': '[0, 0, 8, 0, 8]' })).toBe(true)
    expect(hasEvenHeads({ 'x.attention.head_count_kv': '[8, 2, 8]' })).toBe(false)
    expect(hasEvenHeads({ 'gemma4.attention.key_length': '512', 'gemma4.attention.key_length_swa': '256' })).toBe(false)
    expect(hasEvenHeads({})).toBe(true)
  })
})

describe('rounds', () => {
  const pace = (prompt: number, generation: number): Pace => ({
    prompt,
    generation,
    promptTokens: 256,
    evenHeads: true,
  })

  test('alternate, every other one backwards, and the fastest of each model counts, for prompt and generation apart', async () => {
    const order: string[] = []
    const said: number[] = []
    const told: [Timing[], number][] = []
    // The machine is busy in the second round, but for the last run of it.
    const speeds: Record<string, Pace[]> = {
      a: [pace(10, 5), pace(4, 6), pace(11, 4)],
      b: [pace(20, 7), pace(8, 3), pace(19, 8)],
    }
    await inRounds(
      ['a', 'b'],
      3,
      async (model, { round, done, total }) => {
        order.push(model)
        said.push(done)
        expect(total).toBe(6)
        return speeds[model]![round]!
      },
      (best, rounds) => told.push([best, rounds]),
    )
    expect(order).toEqual(['a', 'b', 'b', 'a', 'a', 'b'])
    expect(said).toEqual([0, 1, 2, 3, 4, 5])
    expect(told.map(([best, rounds]) => [rounds, ...best.map(each => [each.prompt, each.generation])])).toEqual([
      [1, [10, 5], [20, 7]],
      [2, [10, 6], [20, 7]],
      [3, [11, 6], [20, 8]],
    ])
    // Prompts of 11 and 10 tokens a second, and generations of 6 and 5.
    expect(told.map(([[a]]) => a!.noise)).toEqual([0, expect.closeTo(0.6, 12), expect.closeTo(1 / 6, 12)])
  })
  test('end with the first that is stopped; those that were whole stand', async () => {
    const told: number[] = []
    let runs = 0
    await inRounds(
      ['a', 'b', 'c'],
      3,
      async () => (++runs === 5 ? null : pace(1, runs)),
      (best, rounds) => told.push(best.length, rounds),
    )
    expect([runs, told]).toEqual([5, [3, 1]])
    await inRounds(
      ['a'],
      3,
      async () => null,
      () => told.push(99),
    )
    expect(told).not.toContain(99)
  })
  test('are as long as the context has room for', () => {
    expect(lengthsFor(512)).toEqual({ prompt: 256, generated: 64 })
    expect(lengthsFor(128)).toEqual({ prompt: 83, generated: 32 })
    for (const context of [64, 100, 256, 384, 512, 4096])
      expect(lengthsFor(context).prompt + lengthsFor(context).generated).toBeLessThanOrEqual(0.9 * context)
  })
})

describe('words', () => {
  test('of a ratio', () => {
    expect([1.13, 0.92, 1.02, 0.98, 1.031, 2.44, 12.4, 0.5].map(ratio => plain(fasterWords(ratio, within())))).toEqual([
      '13 % faster',
      '8 % slower',
      'as fast (within 3 %)',
      'as fast (within 3 %)',
      '3 % faster',
      '2.4 times as fast',
      '12 times as fast',
      '50 % slower',
    ])
    expect([1.13, 0.92, 1.3].map(ratio => plain(fasterWords(ratio, within({ noise: 0.14 }, { noise: 0.01 }))))).toEqual(
      ['as fast (within 14 %)', 'as fast (within 14 %)', '30 % faster'],
    )
  })

  const merged: Candidate = { method: 'laminate', dtype: 'q4_k', layers: 26, bytes: 61e6, kl: 0.21 }
  const unmerged: Candidate = { method: 'original', dtype: 'q3_k_m', layers: 30, bytes: 62e6, kl: 0.26 }
  const speeds = (generation: number, noise = 0): Speeds => ({
    prompt_tokens: 256,
    generated_tokens: 64,
    rounds: 3,
    models: [
      { ...merged, prompt: 20, generation, cache: 1, noise },
      { ...unmerged, prompt: 25, generation: 10, cache: 2, noise: 0.01 },
    ],
  })
  const said = (difference: SizeChoice['difference'], generation: number, noise = 0) =>
    plain(verdictWords({ size: 62e6, merged, unmerged, difference }, 30, title, unmerged, speeds(generation, noise)))
  const [better, worse, close] = [
    { difference: -0.05, margin: 0.01 },
    { difference: 0.05, margin: 0.01 },
    { difference: 0.001, margin: 0.01 },
  ]

  test('of a verdict say how much faster the better model writes', () => {
    expect(said(better, 11.3)).toBe(
      'At most 62.0 MB: Laminate with 26 of 30 layers in Q4_K (61.0 MB, KL 0.21 nats) is better than the original in Q3_K_M (62.0 MB, KL 0.26 nats), by 0.050 ± 0.010 nats a token, and is 13 % faster.',
    )
    expect(said(better, 10.2)).toMatch(/nats a token, and is as fast \(within 3 %\)\.$/)
    expect(said(better, 8)).toMatch(/nats a token, but is 20 % slower\.$/)
    expect(said(worse, 11.3)).toMatch(/nats a token, but is 12 % slower: merging pays in speed only\.$/)
    expect(said(worse, 8)).toMatch(/nats a token, and is 25 % faster: merging does not pay\.$/)
    expect(said(worse, 10)).toMatch(/nats a token, and is as fast \(within 3 %\): merging does not pay\.$/)
    expect(said(close, 11.3)).toMatch(/equally good within the noise, and the merged one is 13 % faster\.$/)
    expect(said(better, 11.3, 0.2)).toMatch(/nats a token, and is as fast \(within 20 %\)\.$/)
    expect(said(worse, 11.3, 0.2)).toMatch(/and is as fast \(within 20 %\): merging does not pay\.$/)
    expect(said(null, 9)).toMatch(/on so little text, and the merged one is 10 % slower\.$/)
  })
  test('are as they were where one of the two was not measured', () => {
    const one = { ...speeds(12), models: speeds(12).models.slice(0, 1) }
    expect(plain(verdictWords({ size: 62e6, merged, unmerged, difference: better }, 30, title, unmerged, one))).toMatch(
      /nats a token\.$/,
    )
    expect(
      plain(verdictWords({ size: 62e6, merged, unmerged: null, difference: null }, 30, title, unmerged, speeds(12))),
    ).not.toContain('faster')
  })
})

const options = {
  methods: ['laminate', 'mka'],
  remove: [2, 4],
  evaluation: { text: null, text_name: null, samples: 8, tokens: 16 },
  seed: 3,
  dtypes: ['keep', 'q8_0', 'q4_k_m', 'q2_k'] as const,
}
const compared = () => compareOf(stored, { ...options, dtypes: [...options.dtypes] }, async () => false, stored.device)
/** Models with fewer layers are faster in proportion. */
const measured = (report: Comparison): Speeds => ({
  prompt_tokens: 250,
  generated_tokens: 64,
  rounds: 3,
  models: namedModels(report).map(({ method, dtype, layers }, i) => ({
    method,
    dtype,
    layers,
    prompt: 1200 / layers + i,
    generation: 12 / layers,
    cache: i === 1 ? null : 1000 * layers,
    noise: 0.02,
  })),
})

describe('a comparison that was measured', () => {
  test('names the original, the front, and whom the verdicts name', async () => {
    const report = await compared()
    const named = namedModels(report)
    expect(named[0]!.key).toBe('')
    expect(named).toEqual(expect.arrayContaining(frontOf(candidatesOf(report))))
    expect(named.length).toBeLessThan(candidatesOf(report).length)
    for (const { merged, unmerged } of report.verdicts!)
      for (const each of [merged, unmerged])
        if (each)
          expect(named).toContainEqual(
            expect.objectContaining({ method: each.method, dtype: each.dtype, layers: each.layers }),
          )
  })
  test('tells it in verdicts, read-out, CSV, Markdown, JSON, and in the order of the table', async () => {
    const bare = await compared()
    const report = { ...bare, speeds: measured(bare) }
    expect(verdictLines(bare, title).filter(line => /faster|slower|as fast/.test(line))).toEqual([])
    expect(verdictLines(report, title).filter(line => /faster|slower|as fast/.test(line)).length).toBeGreaterThan(1)
    const row = [...originalRows(report), ...report.rows].find(each => speedOf(report.speeds, each))!
    expect(readOut(row, title, null, speedOf(report.speeds, row))).toMatch(
      /, reads \d+ and writes 1\.\d tokens a second/,
    )
    const [head = '', first = '', ...lines] = comparisonCsv(report.rows, report).trimEnd().split('\n')
    expect(head).toMatch(/,prompt_per_second,generation_per_second,cache_bytes_per_1000_tokens$/)
    expect(first).toMatch(/,keep,,100,1,12000$/)
    expect(lines.filter(line => !line.endsWith(',,,'))).toHaveLength(report.speeds.models.length - 1)
    const text = comparisonMarkdown(report.rows, report, title)
    expect(text).toContain('| agrees | prompt, tokens/s | generation, tokens/s | cache | remark |')
    expect(
      new Set(
        text
          .split('\n')
          .filter(line => line.startsWith('|'))
          .map(line => line.match(/(?<!\\)\|/g)!.length),
      ).size,
    ).toBe(1)
    expect(text).toMatch(/\| original \| as it is \| 0 \|.*\| 100 \| 1\.0 \| 12\.0 kB \|  \|/)
    expect(plain(footing(report).at(-1)!)).toBe(
      "Speed: llama.cpp on one thread of a browser's tab, which reads a prompt of 250 tokens and writes 64 more, the fastest of 3 rounds. Cache: keys and values of 1,000 tokens in F16.",
    )
    expect(plain(measuredWords({ ...report.speeds, models: [{ noise: 0.02 }, { noise: 0.31 }] }))).toContain(
      'The machine was busy: rounds differ by up to 31 %.',
    )
    expect(compareReport(JSON.parse(JSON.stringify(report)), ['compare.json', '']).speeds).toEqual(report.speeds)
    expect(compareReport(JSON.parse(JSON.stringify(bare)), ['compare.json', '']).speeds).toBeUndefined()
    const speed = (sorted: ReturnType<typeof inOrderOf>) =>
      sorted.map(each => speedOf(report.speeds, each)?.prompt ?? null)
    const order = speed(inOrderOf(report.rows, { column: 'prompt', descending: true }, title, report.speeds))
    const numbers = order.filter(each => each !== null)
    expect(numbers.length).toBeGreaterThan(1)
    expect(order.slice(0, numbers.length)).toEqual(numbers.toSorted((a, b) => b - a))
  })
  test('leaves out what a page cannot hold', async () => {
    const report = await compared()
    expect(timeable(report).large).toEqual([])
    const large = timeable({ ...report, bytes: MOST_BYTES + 1 })
    expect(large.large.map(each => each.key)).toEqual([''])
    expect([tooLarge(MOST_BYTES), plain(tooLarge(3e9))]).toEqual([
      '',
      'llama.cpp cannot hold 3.00 GB in a page, at most 2.00 GB; take the model away and measure it outside the browser.',
    ])
  })
})

const fake = vi.hoisted(() => ({ runs: [] as string[], stopAt: Infinity }))
vi.mock('../../www/try/llama', () => ({
  paceOf: async (files: File[]) => {
    fake.runs.push(files[0]!.name)
    return fake.runs.length >= fake.stopAt
      ? null
      : { prompt: 100 + fake.runs.length, generation: 10 + fake.runs.length, promptTokens: 251, evenHeads: true }
  },
}))

describe('measuring', () => {
  let storage: MemoryDirectory
  let state: State
  let writes: Calls['write']['args'][]
  let actions: Actions
  const jobs = () => storage.directory('laminate')?.names() ?? []

  beforeEach(async () => {
    Object.assign(fake, { runs: [], stopAt: Infinity })
    storage = new MemoryDirectory('')
    vi.stubGlobal('navigator', { storage: { getDirectory: async () => storage } })
    state = new State()
    const file = new File(['GGUF'], 'm.gguf')
    Object.assign(state, {
      model: { ...stored.model, container: 'gguf' },
      origin: { folder: undefined, files: [{ name: 'm.gguf', file }] },
      methods: METHODS,
      plan: { report: await goldenPlan(7), options: planOptions, key: 'plan' },
    })
    writes = []
    const call = async (_run: Run, _name: string, args: Calls['write']['args']) => {
      writes.push(args)
      const [, { name }, target] = args
      if (target.kind !== 'private') throw new Error('not private')
      const folder = await (await storage.getDirectoryHandle('laminate')).getDirectoryHandle(target.job)
      await folder.getFileHandle(`${name}.gguf`, { create: true })
      return { files: [{ name: `${name}.gguf`, bytes: 4 }] }
    }
    const run = { controller: new AbortController() } as Run
    const during = async (_kind: string, work: (run: Run) => Promise<void>) => work(run).then(() => true)
    actions = {
      state,
      call,
      during,
      observe: () => {},
      ensureMaps: async () => {},
      ensureModel: async () => {},
    } as unknown as Actions
  })

  test('original and result are timed in turn, with the cache of each', async () => {
    state.writeOptions.container = 'gguf'
    await measureBoth(actions)
    expect(fake.runs.map(name => name === 'm.gguf')).toEqual([true, false, false, true, true, false])
    const { original, compressed, rounds } = state.speed!
    expect([rounds, original.prompt, original.generation, compressed.prompt]).toEqual([3, 105, 15, 106])
    expect(original.cache).toBe(
      cacheBytes(
        stored.model,
        Array.from({ length: 12 }, (_, layer) => layer),
      ),
    )
    expect(compressed.cache! / original.cache!).toBeCloseTo(5 / 12, 12)
  })
  test('rows of a comparison are written with their layers and types, by dropping, and removed afterwards', async () => {
    const report = await compared()
    Object.assign(state, { comparison: { report, options: {}, key: '' }, rows: report.rows })
    await measureFront(actions)
    const named = namedModels(report)
    expect(
      writes.map(([plan, { dtype, importances, container }]) => [
        plan.groups.length,
        plan.operator,
        dtype,
        importances,
        container,
      ]),
    ).toEqual(named.slice(1).map(({ layers, dtype }) => [layers, 'drop', dtype, false, 'gguf']))
    for (const [plan] of writes)
      expect(
        plan.weights.every(
          (weights, g) =>
            weights[0] === 1 &&
            weights.length === plan.groups[g]!.length &&
            weights.slice(1).every(weight => weight === 0),
        ),
      ).toBe(true)
    expect(fake.runs).toHaveLength(3 * named.length)
    expect(fake.runs.slice(0, named.length)).toEqual(fake.runs.slice(named.length, 2 * named.length).toReversed())
    const { speeds } = state.comparison!.report
    expect([speeds!.rounds, speeds!.prompt_tokens, speeds!.models.length]).toEqual([3, 251, named.length])
    expect(speeds!.models.map(({ method, dtype, layers }) => ({ method, dtype, layers }))).toEqual(
      named.map(({ method, dtype, layers }) => ({ method, dtype, layers })),
    )
    for (const { layers, cache } of speeds!.models)
      expect(cache).toBe(
        cacheBytes(
          stored.model,
          Array.from({ length: layers }, (_, layer) => layer),
        ),
      )
    await vi.waitFor(() => expect(jobs()).toEqual([]))
  })
  test('a stop in the second round keeps the first; one in the first keeps nothing', async () => {
    const report = await compared()
    const named = namedModels(report).length
    Object.assign(state, { comparison: { report, options: {}, key: '' } })
    fake.stopAt = named + 2
    await measureFront(actions)
    expect([state.comparison!.report.speeds!.rounds, fake.runs.length]).toEqual([1, named + 2])
    Object.assign(state, { comparison: { report, options: {}, key: '' } })
    Object.assign(fake, { runs: [], stopAt: 2 })
    await measureFront(actions)
    expect(state.comparison!.report.speeds).toBeUndefined()
    await vi.waitFor(() => expect(jobs()).toEqual([]))
  })
  test('too little storage is said before anything is written', async () => {
    vi.stubGlobal('navigator', {
      storage: { getDirectory: async () => storage, estimate: async () => ({ quota: 1e6, usage: 0 }) },
    })
    const report = await compared()
    Object.assign(state, { comparison: { report, options: {}, key: '' } })
    await expect(measureFront(actions)).rejects.toMatchObject({
      kind: 'limit',
      message: expect.stringContaining('compare fewer models'),
    })
    expect([writes, fake.runs]).toEqual([[], []])
  })
})

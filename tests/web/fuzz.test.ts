import { beforeAll, describe, expect, test } from 'vitest'
import { Failure } from '../../www/engine/errors'
import { linkOf, readLink } from '../../www/share/link'
import { readPlan } from '../../www/plan/recipe'
import { stateOf } from '../../www/share/open'
import { readResult } from '../../www/share/read'
import { reportHtml } from '../../www/share/report/html'
import { recipeOf, resultJson, resultOf, withoutPieces, type Result } from '../../www/share/result'
import { State } from '../../www/app/state.svelte'
import { METHODS } from './mock/methods'
import { goldenPlan, planOptions, stored } from './stored'

/** Cases of a kind, unless `LAMINATE_FUZZ_CASES` says how many. */
const CASES = Number(process.env.LAMINATE_FUZZ_CASES ?? 400)
const LONG = { timeout: 60_000 + 100 * CASES }

/** Numbers of a seed, from 0 up to below `n`. */
function random(seed: number): (n: number) => number {
  let state = (seed * 2_654_435_761 + 1) % 0x7fffffff || 1
  const next = () => (state = (state * 48_271) % 0x7fffffff)
  for (let warm = 0; warm < 3; warm++) next()
  return n => Math.floor((next() / 0x7fffffff) * n)
}

const VALUES: readonly unknown[] = [
  null,
  true,
  0,
  1,
  -1,
  0.5,
  1.5,
  12,
  1e308,
  -1e308,
  4_294_967_296,
  '',
  'mka',
  'NaN',
  '<b>',
  'x'.repeat(5000),
  [],
  [[]],
  [[0, 1], [2]],
  {},
  { plan: {} },
  [null],
  '__proto__',
]

type Json = Record<string, unknown> | unknown[]

/** Replaces, repeats or removes a value anywhere in `value`. */
function damage(value: Json, pick: (n: number) => number): void {
  const keys = Object.keys(value)
  if (keys.length === 0) return
  const key = keys[pick(keys.length)]!
  const inside = (value as Record<string, unknown>)[key]
  if (typeof inside === 'object' && inside !== null && Object.keys(inside).length > 0 && pick(6) > 0)
    return damage(inside as Json, pick)
  const way = pick(8)
  if (way === 0 && !Array.isArray(value)) delete value[key]
  else if (way === 0 && Array.isArray(value)) value.splice(Number(key), 1)
  else if (way === 1 && Array.isArray(value)) value.splice(Number(key), 0, structuredClone(inside))
  else (value as Record<string, unknown>)[key] = structuredClone(VALUES[pick(VALUES.length)])
}

/** Damages a text in one to three places. */
function torn(text: string, pick: (n: number) => number): string {
  let torn = text
  for (let time = 0; time <= pick(3); time++) {
    const [at, length] = [pick(torn.length), 1 + pick(40)]
    const way = pick(3)
    if (way === 0) torn = torn.slice(0, at) + torn.slice(at + length)
    else if (way === 1) torn = torn.slice(0, at + length) + torn.slice(at)
    else torn = torn.slice(0, at) + String.fromCharCode(32 + pick(95)) + torn.slice(at + 1)
  }
  return torn
}

/** What is read is shown; what is not read is refused in one sentence. */
async function readOrRefused(reading: () => Promise<Result | null>): Promise<'shown' | 'refused' | 'another file'> {
  try {
    const found = await reading()
    if (!found) return 'another file'
    stateOf(found, new State())
    reportHtml(withoutPieces(found))
    return 'shown'
  } catch (thrown) {
    if (!(thrown instanceof Failure)) throw thrown
    expect(thrown.message).toMatch(/^[^\n]{10,600}$/)
    expect(thrown.message).not.toMatch(/undefined|\[object|TypeError/)
    return 'refused'
  }
}

async function each(reading: (pick: (n: number) => number) => Promise<Result | null>): Promise<void> {
  const seen = { shown: 0, refused: 0, 'another file': 0 }
  for (let seed = 0; seed < CASES; seed++) {
    try {
      seen[await readOrRefused(() => reading(random(seed)))]++
    } catch (thrown) {
      throw new Error(`seed ${seed}`, { cause: thrown })
    }
  }
  expect(seen.refused).toBeGreaterThan(CASES / 20)
}

describe('damaged at random', () => {
  let result: Result
  let whole: Record<string, unknown>
  beforeAll(async () => {
    const plan = await goldenPlan(7)
    result = resultOf({
      maps: { report: stored, key: '', options: stored.options },
      plan: { report: plan, key: '', options: planOptions },
      comparison: null,
      costs: {
        key: '',
        method: 'laminate',
        text: 'a text',
        whole: { layers: 12, bytes: 1_200_000, perplexity: 7.25 },
        measured: [1, 2, 4].map(removed => ({
          removed,
          bytes: 1_200_000 - 90_000 * removed,
          perplexity: 7.5,
          kl: 0.01 * removed,
          agreement: 0.9,
          collapsed: false,
        })),
      },
      goal: 'jump',
      methods: METHODS,
    })!
    result = { ...result, maps: result.maps && { ...result.maps, point_list: [], embedding: [] } }
    whole = JSON.parse(JSON.stringify(resultJson(result))) as Record<string, unknown>
  })

  const changed = <T extends Json>(value: T, pick: (n: number) => number): T => {
    const copy = structuredClone(value)
    for (let time = 0; time <= pick(3); time++) damage(copy, pick)
    return copy
  }

  test('results', LONG, () => each(pick => readResult(new Blob([JSON.stringify(changed(whole, pick))]), 'x.json')))
  test('plans', LONG, () =>
    each(pick => readResult(new Blob([JSON.stringify(changed(whole.plan as Json, pick))]), 'x.json')),
  )
  test('reports', LONG, () => {
    const html = reportHtml(result)
    return each(pick => readResult(new Blob([torn(html, pick)]), 'x.html'))
  })
  test('links', LONG, async () => {
    const link = await linkOf(result)
    await each(pick => readLink(torn(link, pick)))
  })
  test('recipes', LONG, async () => {
    const recipe = JSON.parse(JSON.stringify(recipeOf(result))) as Json
    await each(pick => readResult(new Blob([JSON.stringify(changed(recipe, pick))]), 'recipe.json'))
  })
  test('recipes for a plan by hand', LONG, async () => {
    const recipe = JSON.parse(JSON.stringify(recipeOf(result))) as Json
    let refused = 0
    for (let seed = 0; seed < CASES; seed++) {
      const json = JSON.stringify(changed(recipe, random(seed)))
      await readPlan({ name: 'recipe.json', size: json.length, text: () => Promise.resolve(json) }, 12).catch(
        (thrown: unknown) => {
          refused++
          if (!(thrown instanceof Failure)) throw new Error(`seed ${seed}`, { cause: thrown })
        },
      )
    }
    expect(refused).toBeGreaterThan(CASES / 20)
  })
})

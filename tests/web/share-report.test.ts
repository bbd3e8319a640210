import { beforeAll, describe, expect, test } from 'vitest'
import type { SimilarityReport } from '../../www/engine/protocol/similarity'
import { CITATIONS } from '../../www/share/citation'
import { reportHtml } from '../../www/share/report/html'
import { markup } from '../../www/share/report/markup'
import { ofMatrix, ofRecipe, recipeOf, resultOf, type Result } from '../../www/share/result'
import { compareOf } from './mock/compare'
import { METHODS } from './mock/methods'
import { fittedPlan, goldenPlan, planOptions, stored } from './stored'

/** What a hostile file would call things. */
const EVIL = `</script><script>alert(1)</script><img src=x onerror=alert(1)>"'&{{}}\u2028`

async function resultWith(maps: SimilarityReport): Promise<Result> {
  const report = await goldenPlan(7)
  const comparison = await compareOf(
    maps,
    {
      methods: ['mka', 'flatten'],
      remove: [2, 6],
      evaluation: { text: null, text_name: null, samples: 8, tokens: 16 },
      seed: 3,
    },
    async () => false,
    maps.device,
  )
  return resultOf({
    maps: { report: maps, key: '', options: maps.options },
    plan: { report: { ...report, text: maps.text, warnings: maps.warnings }, key: '', options: planOptions },
    comparison: {
      report: { ...comparison, warnings: maps.warnings },
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
}

/** Without scripts and their data. */
const shown = (html: string) => html.replaceAll(/<script[^]*?<\/script>/g, '')

let html: string
beforeAll(async () => {
  html = reportHtml(await resultWith(stored))
})

test('the report holds everything but the weights', () => {
  const words = shown(html)
    .replaceAll(/<style[^]*?<\/style>|<[^>]+>/g, ' ')
    .replaceAll(/[\s\u00a0]+/g, ' ')
  for (const expected of [
    'stories-planted-12L',
    'TinyStories, held-out part (built in), 128 sequences of 48 tokens, 6,016 scored',
    'mutual information of diffusion maps',
    'LlamaForCausalLM',
    '578 thousand',
    'median of squared distances',
    '12 layers became 5: 0 1 2 3 4 5 6 7 8 9 10 11',
    'perplexity 6.75',
    'most similar neighbours',
    'FlattenGPT',
    'failed: 6 disjoint pairs do not fit',
    'Measured on built-in evaluation text (8 sequences of 16 tokens), 120 tokens scored.',
    '2406.16330',
    'Laminate 0.1.0',
  ])
    expect(words).toContain(expected)
  expect(html.match(/<rect x="\d+" fill="/g)).toHaveLength(144)
  const table = [...html.matchAll(/<tr><th scope="row">(\d+)<\/th>((?:<td>[\d.]+<\/td>){12})<\/tr>/g)].map(
    ([, , cells]) => [...cells!.matchAll(/[\d.]+(?=<)/g)].map(([value]) => Number(value)),
  )
  expect(table).toEqual(stored.similarity.map(row => row.map(value => Number(value.toFixed(3)))))
})

test('types that were compared: who won, the plot, the original in each type, and the importances', async () => {
  const result = await resultWith(stored)
  const comparison = await compareOf(
    stored,
    {
      methods: ['laminate', 'mka'],
      remove: [2, 4],
      evaluation: { text: null, text_name: null, samples: 8, tokens: 16 },
      seed: 3,
      dtypes: ['keep', 'q8_0', 'q2_k'],
    },
    async () => false,
    stored.device,
  )
  const imatrix = { name: `mine.gguf${EVIL}`, hash: 'ab' }
  const typed = reportHtml({
    ...result,
    comparison: { ...comparison, imatrix },
    plan: { ...result.plan!, imatrix, output: { ...result.plan!.output, pack: 'int4' } },
  })
  const words = shown(typed)
    .replaceAll(/<style[^]*?<\/style>|<[^>]+>/g, ' ')
    .replaceAll(/[\s\u00a0]+/g, ' ')
  for (const expected of [
    'Fewer layers or fewer bits',
    'At most ',
    'KL in nats a token, logarithmic scale',
    '10 in Q8_0',
    'original Q2_K 0',
    'Laminate Q8_0 2',
    'encoded by the importance matrix mine.gguf',
    'Number type INT4',
    'Importances of mine.gguf',
  ])
    expect(words).toContain(expected)
  expect(typed.match(/<svg class="frontier"/g)).toHaveLength(1)
  expect(typed.match(/<script/g)).toHaveLength(3)
  expect(typed).not.toMatch(/ style="/)
  expect(html).not.toContain('Fewer layers or fewer bits')
})

test('it asks for nothing, and its policy would let nothing through', () => {
  expect(html.replaceAll('&#39;', "'")).toMatch(
    /content="default-src 'none'; script-src 'nonce-[\w+/=]{24}'; style-src 'nonce-[\w+/=]{24}'; img-src data:; base-uri 'none'; form-action 'none'"/,
  )
  expect(html).not.toMatch(/\b(src|href|action)=|@import|url\(|https?:\/\/(?!www\.w3\.org\/2000\/svg)/)
  expect(html).not.toMatch(/ on\w+=| style="/)
})

test('a nonce is used once', async () =>
  expect(reportHtml(await resultWith(stored)).match(/nonce-[\w+/=]+/)![0]).not.toBe(html.match(/nonce-[\w+/=]+/)![0]))

describe('hostile names', () => {
  test('stay text everywhere', async () => {
    const evil = reportHtml(
      await resultWith({
        ...stored,
        model: { ...stored.model, name: EVIL, architecture: EVIL, dtype: EVIL },
        text: { ...stored.text, name: EVIL },
        warnings: [EVIL],
        device: { ...stored.device, name: EVIL },
        point_list: stored.point_list.map(point => ({ ...point, text: EVIL })),
      }),
    )
    expect([evil.match(/<script/g)?.length, evil.match(/<\/script>/g)?.length]).toEqual([3, 3])
    expect(evil).not.toContain('<img')
    expect(evil).toContain('&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;{{}}')
  })
  test('markup lets nothing through but itself', () => {
    expect(markup`<b title="${`"><i>`}">${'<'}${3}${null}${[markup`<u>${'&'}</u>`]}</b>`.html).toBe(
      '<b title="&quot;&gt;&lt;i&gt;">&lt;3<u>&amp;</u></b>',
    )
  })
})

test('a report of a bare matrix, and of a recipe, says what it has and no more', async () => {
  const bare = shown(
    reportHtml(
      ofMatrix(
        [
          [1, 0.5],
          [0.5, 1],
        ],
        'x.npy',
      ),
    ),
  )
  expect(bare).toContain('<h1>x.npy</h1>')
  expect(bare).not.toMatch(/NaN|undefined|Infinity/)
  expect(bare).not.toContain('Diffusion time')
  const recipe = shown(
    reportHtml(ofRecipe(JSON.parse(JSON.stringify(recipeOf(await resultWith(stored)))), 'recipe.json')),
  )
  expect(recipe).toContain('12 layers became 5')
  expect(recipe).not.toMatch(/id="judge"|NaN|undefined/)
})

test('a plan whose steps are not measured: the model beside its measures, and no hole', async () => {
  const result = await resultWith(stored)
  const fitted = shown(
    reportHtml({ ...result, plan: await fittedPlan(7), options: { ...planOptions, operator: 'pool-refit' } }),
  )
  expect(fitted).toMatch(/aria-label="Perplexity: original, 7\.31; merged, 7\.\d+; dropped, \d/)
  expect(fitted).toContain('held out: no layer was fitted to it')
  expect(fitted).not.toMatch(/NaN|undefined|Infinity|by layers removed|>alpha<|Weights/)
})

test('what to cite', () => {
  for (const { bibtex, text } of CITATIONS) {
    expect(bibtex.match(/[{]/g)?.length).toBe(bibtex.match(/[}]/g)?.length)
    expect(text).toMatch(/\.$/)
  }
  expect(CITATIONS[1]!.bibtex).toMatch(/eprint\s+= \{2406\.16330\}/)
})

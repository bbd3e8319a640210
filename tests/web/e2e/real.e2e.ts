import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  ADVANCED,
  choosePublished,
  compress,
  ENGINE,
  findBrowser,
  groupsOf,
  openSite,
  runDemo,
  saved,
  type Site,
  visit,
} from './harness'
import { privateFiles } from './storage'
import { readZip } from './zip'

const MODEL = 'tests/data/models/stories260K'
const missing = [
  !findBrowser() && 'no Chromium was found (set CHROMIUM to its path)',
  !existsSync(ENGINE) && 'the engine has not been compiled',
].filter(Boolean)
if (missing.length) console.warn(`SKIPPED: the page with the compiled engine, because ${missing.join(' and ')}`)

/** A software adapter on busy cores: minutes, not seconds. */
const LONG = 600_000
const PLANTED = '[0][1 2 3][4 5 6][7 8 9][10 11]'

describe.skipIf(missing.length > 0)('the page, with the compiled engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('real')
  })
  afterAll(() => site?.close())

  /** A software adapter is hundreds of times slower than a card: it gets less text, enough for the same groups. */
  const LITTLE = { Sequences: '40', 'Tokens in each': '12' }

  const squares = (page: Page) =>
    page.locator('[data-value]').evaluateAll(cells => cells.map(cell => Number((cell as SVGElement).dataset.value)))

  describe.each([
    ['WebGPU', `${ADVANCED}&device=gpu`, /WebGPU/, LITTLE],
    ['CPU', '?device=cpu', /CPU \(wasm SIMD with fused multiply-adds/, null],
  ] as const)('%s', (_, path, device, text) => {
    test(
      'finds the planted groups in the demo and hands back a smaller model',
      async () => {
        const { page, requests, errors } = await visit(site, path)
        await expect.poll(() => page.getByTestId('device').textContent(), { timeout: 60_000 }).toMatch(device)
        if (text) {
          await page.getByRole('button', { name: 'Run the demo' }).click()
          await page
            .getByText(/^Running /)
            .first()
            .waitFor({ timeout: LONG })
          await page.getByRole('button', { name: 'Cancel' }).click()
          await page.getByText(/^Cancelled/i).waitFor({ timeout: 30_000 })
          for (const [label, value] of Object.entries(text)) await page.getByLabel(label).fill(value)
          await page.getByLabel('Sequences').focus()
          await page.getByRole('button', { name: 'Compare the layers' }).click()
          await page.getByRole('button', { name: 'Compare the layers again' }).waitFor({ timeout: LONG })
        } else {
          const stored = await squares(page)
          await runDemo(page, LONG)
          // The picture that the page opens with is the one that the engine draws.
          const drawn = await squares(page)
          expect(stored).toHaveLength(144)
          expect(Math.max(...drawn.map((value, i) => Math.abs(value - stored[i]!)))).toBeLessThan(1e-3)
        }
        await choosePublished(page)
        await compress(page, 7, LONG)
        expect(await groupsOf(page)).toBe(PLANTED)
        const verdict = await page.getByTestId('verdict').innerText()
        const [merged, original] = verdict.match(/[\d.]+/g)!.map(Number) as [number, number]
        if (!text) expect(Math.abs(original / 6.745 - 1)).toBeLessThan(0.01)
        expect(merged / original).toBeLessThan(text ? 1.15 : 1.06)
        const downloading = page.waitForEvent('download', { timeout: LONG })
        await page.getByRole('button', { name: 'Download a zip' }).click()
        const entries = readZip(await (await downloading).path())
        const file = (name: string) => entries.find(entry => entry.name.endsWith(`/${name}`))
        expect(entries.every(entry => entry.method === 0 && entry.size > 0)).toBe(true)
        expect(JSON.parse(file('config.json')!.data.toString())).toMatchObject({ num_hidden_layers: 5 })
        expect(JSON.parse(file('recipe.json')!.data.toString())).toBeTypeOf('object')
        for (const name of ['tokenizer.json', 'README.md']) expect(file(name), name).toBeDefined()
        const weights = file('model.safetensors')!.data
        const header = JSON.parse(weights.toString('utf8', 8, 8 + Number(weights.readBigUInt64LE(0))))
        expect(
          new Set(
            Object.keys(header)
              .map(key => /layers\.(\d+)\./.exec(key)?.[1])
              .filter(Boolean),
          ).size,
        ).toBe(5)
        expect(requests.filter(url => new URL(url).origin !== new URL(site.url).origin)).toEqual([])
        expect(errors).toEqual([])
      },
      2 * LONG,
    )
  })

  test(
    'methods side by side, fitted on one text and measured on another',
    async () => {
      const { page, errors } = await visit(site, '?device=cpu')
      await runDemo(page, LONG)
      const panel = page.locator('#compare')
      await panel.getByRole('button', { name: 'None' }).click()
      for (const name of ['MKA', 'MKA, published code', 'Prune&Comp', 'Laminate'])
        await panel.getByRole('checkbox', { name, exact: true }).check()
      await page.getByLabel('Numbers of layers').fill('5')
      await panel.getByRole('button', { name: /^Compare the methods/ }).click()
      await panel.getByRole('button', { name: 'Compare the methods again' }).waitFor({ timeout: LONG })
      const report = JSON.parse((await saved(page, 'the comparison', 'JSON')).bytes.toString())
      const kl = Object.fromEntries(
        report.rows.map((row: { method: string; quality: { kl: number } }) => [row.method, row.quality.kl]),
      )
      expect(Object.keys(kl)).toEqual(['mka', 'mka-code', 'prunecomp', 'laminate'])
      // Three of the four find the planted layers; the last layers are not among them.
      expect(kl['mka-code']).toBeGreaterThan(1)
      expect(kl.mka).toBeLessThan(0.05)
      expect(kl.laminate).toBeLessThan(kl.mka)
      expect(report.evaluation.name).not.toBe(report.calibration.name)
      expect(errors).toEqual([])
    },
    2 * LONG,
  )

  test(
    'a folder of one\'s own: no redundancy, and "collapsed" when it is',
    async () => {
      const { page } = await visit(site, '?device=cpu')
      await page.getByTestId('folder').setInputFiles(MODEL)
      await page.getByRole('heading', { level: 1, name: /stories260K/ }).waitFor({ timeout: 60_000 })
      await page.getByRole('button', { name: 'Compare the layers' }).click()
      await page.getByRole('button', { name: 'Compare the layers again' }).waitFor({ timeout: LONG })
      await choosePublished(page)
      await compress(page, 4, LONG)
      expect(await page.getByTestId('collapsed').innerText()).toContain('Collapsed')
    },
    LONG,
  )

  test(
    'the recommended method, judged on a text of its own, and whether more text would help',
    async () => {
      const { page, errors } = await visit(site, '?device=cpu')
      await runDemo(page, LONG)
      await compress(page, 7, LONG)
      expect(await groupsOf(page)).toBe(PLANTED)
      const [merged, original, dropped] = (await page.getByTestId('verdict').innerText())
        .match(/[\d.]+/g)!
        .map(Number) as [number, number, number]
      expect(merged / original).toBeLessThan(1.06)
      expect(merged).toBeLessThanOrEqual(1.01 * dropped)
      await page.getByRole('button', { name: 'Measure 4 sizes' }).click()
      await page.getByTestId('reading').waitFor({ timeout: LONG })
      // The whole text is what the plan was fitted to.
      const rows = page.getByTestId('more-text').locator('tbody tr')
      await page.getByText('Every size in numbers').click()
      expect(await rows.count()).toBe(4)
      expect(Number((await rows.last().locator('td').nth(1).innerText()).match(/[\d.]+/)![0])).toBeCloseTo(merged, 1)
      expect(errors).toEqual([])
    },
    2 * LONG,
  )

  test(
    'cancelling leaves the page usable and nothing partial',
    async () => {
      const { page } = await visit(site, '?device=cpu')
      await page.getByRole('button', { name: 'Run the demo' }).click()
      await page
        .getByText(/^Running /)
        .first()
        .waitFor({ timeout: LONG })
      await page.getByRole('button', { name: 'Cancel' }).click()
      await page.getByText(/^Cancelled/i).waitFor({ timeout: 30_000 })
      expect(await privateFiles(page)).toEqual([])
      await page.getByRole('button', { name: 'Compare the layers' }).click()
      await page.getByRole('button', { name: 'Compare the layers again' }).waitFor({ timeout: LONG })
    },
    LONG,
  )

  describe('bad input: one sentence that names the file, and the page stays usable', () => {
    const folder = mkdtempSync(join(tmpdir(), 'laminate-broken-'))
    const good = (name: string) => readFileSync(join(MODEL, name))
    const config = () => JSON.parse(good('config.json').toString())

    const CASES: [name: string, files: () => Record<string, Buffer | string>, names: RegExp][] = [
      [
        'truncated weights',
        () => ({ 'model.safetensors': good('model.safetensors').subarray(0, 4000) }),
        /model\.safetensors/,
      ],
      [
        'a header longer than the file',
        () => ({ 'model.safetensors': Buffer.from('\xff\xff\xff\x0f\0\0\0\0{}', 'latin1') }),
        /model\.safetensors/,
      ],
      [
        'a header that is not JSON',
        () => ({ 'model.safetensors': Buffer.concat([Buffer.from([4, 0, 0, 0, 0, 0, 0, 0]), Buffer.from('nope')]) }),
        /model\.safetensors/,
      ],
      ['a config that is not JSON', () => ({ 'config.json': '{' }), /config\.json/],
      [
        'an architecture nobody knows',
        () => ({
          'config.json': JSON.stringify({ ...config(), model_type: 'mamba', architectures: ['MambaForCausalLM'] }),
        }),
        /mamba/i,
      ],
      [
        'a shape that does not fit',
        () => ({ 'config.json': JSON.stringify({ ...config(), intermediate_size: 180 }) }),
        /mlp|180/,
      ],
      [
        'a tokenizer that does not match',
        () => ({ 'config.json': JSON.stringify({ ...config(), vocab_size: 600 }) }),
        /vocab|token|embed|600/,
      ],
    ]
    test.each(CASES)(
      '%s',
      async (_, files, names) => {
        const changed = files()
        const paths = ['config.json', 'model.safetensors', 'tokenizer.json'].map(name => {
          const path = join(folder, name)
          writeFileSync(path, changed[name] ?? good(name))
          return path
        })
        const { page } = await visit(site, '?device=cpu')
        await page.getByTestId('files').setInputFiles(paths)
        const alert = page.getByRole('alert').locator('[data-kind]')
        await alert.waitFor({ timeout: 60_000 })
        expect(await alert.getAttribute('data-kind')).not.toBe('internal')
        expect(await alert.locator('p').innerText()).toMatch(names)
        await page
          .getByTestId('files')
          .setInputFiles(['config.json', 'model.safetensors', 'tokenizer.json'].map(name => join(MODEL, name)))
        await page.getByText(/files recognised/).waitFor({ timeout: 60_000 })
      },
      120_000,
    )

    test('a missing shard', async () => {
      const shards = 'tests/data/models/variants/bf16-shards'
      const names = [
        'config.json',
        'model.safetensors.index.json',
        'model-00001-of-00003.safetensors',
        'model-00003-of-00003.safetensors',
      ]
      const { page } = await visit(site, '?device=cpu')
      await page
        .getByTestId('files')
        .setInputFiles([...names.map(name => join(shards, name)), join(MODEL, 'tokenizer.json')])
      const alert = page.getByRole('alert').locator('[data-kind]')
      await alert.waitFor({ timeout: 60_000 })
      expect(await alert.locator('p').innerText()).toContain('These are 2 parts of a model in 3.')
    }, 120_000)

    test('weights that are not numbers, found when they are used', async () => {
      const weights = Buffer.from(good('model.safetensors'))
      weights.writeFloatLE(NaN, weights.length - 4)
      writeFileSync(join(folder, 'model.safetensors'), weights)
      const { page } = await visit(site, '?device=cpu')
      await page
        .getByTestId('files')
        .setInputFiles([
          join(folder, 'model.safetensors'),
          ...['config.json', 'tokenizer.json'].map(name => join(MODEL, name)),
        ])
      await page.getByText(/files recognised/).waitFor({ timeout: 60_000 })
      await page.getByRole('button', { name: 'Compare the layers' }).click()
      const alert = page.getByRole('alert').locator('[data-kind="numeric"]')
      await alert.waitFor({ timeout: 60_000 })
      expect(await alert.locator('p').innerText()).toMatch(/^Tensor model\..* NaN/)
    }, 120_000)
  })
})

import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readGguf, type Gguf } from './gguf'
import {
  ADVANCED,
  choosePublished,
  compress,
  ENGINE,
  findBrowser,
  groupsOf,
  openSite,
  runDemo,
  type Site,
  visit,
} from './harness'
import { writeHollowMixtral } from './hollow'
import { readZip } from './zip'

const FOLDER = 'tests/data/models/gguf'
const WHOLE = 'stories260K-Q8_0.gguf'
const SHARDS = [1, 2, 3].map(i => `stories260K-F16-split-0000${i}-of-00003.gguf`)
const LONG = 300_000
const missing = [
  !findBrowser() && 'no Chromium was found (set CHROMIUM to its path)',
  !existsSync(ENGINE) && 'the engine has not been compiled',
].filter(Boolean)
if (missing.length)
  console.warn(`SKIPPED: GGUF files in the page with the compiled engine, because ${missing.join(' and ')}`)

const file = (name: string) => readFileSync(join(FOLDER, name))
const choose = (page: Page, names: string[]) =>
  page.getByTestId('files').setInputFiles(names.map(name => join(FOLDER, name)))

describe.skipIf(missing.length > 0)('GGUF files, with the compiled engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('real')
  })
  afterAll(() => site?.close())

  async function compare(page: Page) {
    await page.getByRole('button', { name: 'Compare the layers' }).click()
    await page.getByRole('button', { name: 'Compare the layers again' }).waitFor({ timeout: LONG })
  }

  async function downloaded(page: Page, button: string) {
    const downloading = page.waitForEvent('download', { timeout: LONG })
    await page.getByRole('button', { name: button }).click()
    const download = await downloading
    return { name: download.suggestedFilename(), path: await download.path() }
  }

  /** Layers of the original in each layer of the result, as the page shows them. */
  async function layersOf(page: Page): Promise<number[][]> {
    const text = await groupsOf(page)
    return [...text!.matchAll(/\[([\d ]+)\]/g)].map(match => match[1]!.split(' ').map(Number))
  }

  /** How many tensors are those of the original, byte for byte; all outside of merged layers have to be. */
  function untouched(result: Gguf, original: Gguf, groups: number[][]): number {
    const kept = [...result.tensors].flatMap(([name, tensor]) => {
      const layer = /^blk\.(\d+)\./.exec(name)?.[1]
      const group = layer === undefined ? null : groups[Number(layer)]!
      if (group && group.length > 1) return []
      const source = original.tensors.get(group ? name.replace(/^blk\.\d+/, `blk.${group[0]}`) : name)!
      return [{ name, same: source.type === tensor.type && source.bytes.equals(tensor.bytes) }]
    })
    expect(kept.filter(({ same }) => !same)).toEqual([])
    return kept.length
  }

  test.each([
    ['CPU', `${ADVANCED}&device=cpu`, null],
    ['WebGPU', `${ADVANCED}&device=gpu`, { Sequences: '24', 'Tokens in each': '8' }],
  ] as const)(
    'a file goes in and a smaller one comes out: %s',
    async (_, path, text) => {
      const { page, requests, errors } = await visit(site, path)
      await choose(page, [WHOLE])
      await page.getByRole('heading', { level: 1, name: 'stories260K-Q8_0' }).waitFor({ timeout: 60_000 })
      const facts = await page.locator('#model dl').innerText()
      expect(facts).toMatch(/Layers\s+5, /)
      expect(facts).toMatch(/ in (Q8_0|several types)/)
      for (const [label, value] of Object.entries(text ?? {})) await page.getByLabel(label).fill(value)
      if (text) await page.getByLabel('Points').selectOption('last')
      await page.getByLabel('Sequences').focus()
      await compare(page)
      await compress(page, 1, LONG)
      const groups = await layersOf(page)
      expect(groups).toHaveLength(4)
      const { name, path: result } = await downloaded(page, 'Download the file')
      expect(name).toBe('stories260K-Q8_0-laminated-4L.gguf')
      const [written, original] = [readGguf(readFileSync(result)), readGguf(file(WHOLE))]
      expect(written.metadata.get('llama.block_count')).toBe(4)
      expect(written.metadata.get('tokenizer.ggml.tokens')).toEqual(original.metadata.get('tokenizer.ggml.tokens'))
      expect(untouched(written, original, groups)).toBeGreaterThan(28)
      expect(requests.filter(url => new URL(url).origin !== new URL(site.url).origin)).toEqual([])
      expect(errors).toEqual([])
    },
    2 * LONG,
  )

  test(
    'the parts of a split file are one model',
    async () => {
      const { page } = await visit(site, `${ADVANCED}&device=cpu`)
      await choose(page, SHARDS)
      await page.getByRole('heading', { level: 1, name: /stories260K-F16/ }).waitFor({ timeout: 60_000 })
      await page.getByText('3 files recognised').waitFor()
      await compare(page)
      await compress(page, 1, LONG)
      const groups = await layersOf(page)
      const { name, path } = await downloaded(page, 'Download the file')
      expect(name).toMatch(/^stories260K-F16.*-laminated-4L\.gguf$/)
      const written = readGguf(readFileSync(path))
      expect(written.metadata.get('llama.block_count')).toBe(4)
      const parts = SHARDS.map(shard => readGguf(file(shard)))
      const original = { metadata: parts[0]!.metadata, tensors: new Map(parts.flatMap(part => [...part.tensors])) }
      expect(untouched(written, original, groups)).toBeGreaterThan(28)
    },
    LONG,
  )

  test(
    'a model of 28 GB, whose layers have experts, is opened and a run on it estimated',
    async () => {
      const folder = mkdtempSync(join(tmpdir(), 'laminate-hollow-'))
      try {
        expect(writeHollowMixtral(join(folder, 'hollow-8x7b.gguf'))).toBeGreaterThan(28e9)
        const { page, errors } = await visit(site, `${ADVANCED}&device=cpu`)
        await page.getByTestId('files').setInputFiles(join(folder, 'hollow-8x7b.gguf'))
        await page.getByRole('heading', { level: 1, name: 'hollow-8x7b' }).waitFor({ timeout: 60_000 })
        const facts = await page.locator('#model dl').innerText()
        expect(facts).toMatch(/Layers\s+32, /)
        expect(facts).toMatch(/Experts\s+8 in a layer, 2 for each token/)
        expect(facts).toMatch(/Size\s+2\d\.\d\sGB/)
        // Not a layer of 900 MB, but what is around the experts, one expert, and the next one on its way.
        expect(await page.getByTestId('estimate').innerText({ timeout: LONG })).toMatch(
          /^Takes about .* of memory \(a layer \d{3}\sMB/,
        )
        expect(errors).toEqual([])
      } finally {
        rmSync(folder, { recursive: true })
      }
    },
    LONG,
  )

  test('a part that is missing is named', async () => {
    const { page } = await visit(site, `${ADVANCED}&device=cpu`)
    await choose(page, [SHARDS[0]!, SHARDS[2]!])
    const alert = page.getByRole('alert').locator('[data-kind]')
    await alert.waitFor({ timeout: 60_000 })
    expect(await alert.locator('p').innerText()).toContain('These are 2 parts of a model in 3.')
    await choose(page, SHARDS)
    await page.getByText('3 files recognised').waitFor({ timeout: 60_000 })
  }, 120_000)

  test(
    'the demo leaves as GGUF, in the type that was chosen',
    async () => {
      const { page } = await visit(site, `${ADVANCED}&device=cpu`)
      await runDemo(page, LONG)
      await choosePublished(page)
      await compress(page, 7, LONG)
      await page.getByLabel('Number type').focus()
      const offered = await page.getByLabel('Number type').locator('option').allTextContents()
      expect(offered.map(option => option.replace(/,.*/, ''))).toEqual([
        'as it is',
        'F32',
        'F16',
        'BF16',
        'INT4',
        'INT4-G128',
        'INT4-G64',
        'INT4-G32',
      ])
      expect(offered[2]).toMatch(/^F16, \d+\skB$/)
      await page.getByLabel('Format').selectOption('GGUF')
      expect(
        await page
          .getByLabel('Number type')
          .locator('option')
          .evaluateAll(all => all.map(option => (option as HTMLOptionElement).value)),
      ).toEqual([
        'keep',
        'f32',
        'f16',
        'bf16',
        'q8_0',
        'q6_k',
        'q5_k_m',
        'q5_k_s',
        'q5_k',
        'q5_1',
        'q5_0',
        'q4_k_m',
        'q4_k_s',
        'q4_k',
        'iq4_nl',
        'iq4_xs',
        'q4_1',
        'q4_0',
        'mxfp4',
        'q3_k_l',
        'q3_k_m',
        'q3_k_s',
        'q3_k',
        'q2_k',
      ])
      const keep = readGguf(readFileSync((await downloaded(page, 'Download the file')).path))
      expect(keep.metadata.get('llama.block_count')).toBe(5)
      await page.getByLabel('Number type').selectOption('q8_0')
      await page.getByText(/The result above was measured/).waitFor()
      const { name, path } = await downloaded(page, 'Download the file')
      expect(name).toMatch(/-laminated-5L\.gguf$/)
      const written = readGguf(readFileSync(path))
      const types = (pattern: RegExp) =>
        new Set([...written.tensors].filter(([tensor]) => pattern.test(tensor)).map(([, { type }]) => type))
      expect([types(/attn_q\.weight/), types(/norm/)]).toEqual([new Set([8]), new Set([0])])
      await page.getByLabel('Format').selectOption('safetensors')
      expect(await page.getByLabel('Number type').inputValue()).toBe('keep')
    },
    LONG,
  )

  test(
    'a GGUF file leaves as a Hugging Face folder',
    async () => {
      const { page } = await visit(site, `${ADVANCED}&device=cpu`)
      await choose(page, [WHOLE])
      await page.getByRole('heading', { level: 1, name: 'stories260K-Q8_0' }).waitFor({ timeout: 60_000 })
      await compare(page)
      await compress(page, 1, LONG)
      await page.getByLabel('Format').selectOption('safetensors')
      const { path } = await downloaded(page, 'Download a zip')
      const entries = readZip(path)
      const entry = (wanted: string) => entries.find(({ name }) => name.endsWith(`/${wanted}`))!.data
      expect(JSON.parse(entry('config.json').toString())).toMatchObject({ num_hidden_layers: 4, hidden_size: 64 })
      expect(JSON.parse(entry('tokenizer.json').toString())).toHaveProperty('model')
      const weights = entry('model.safetensors')
      const header = JSON.parse(weights.toString('utf8', 8, 8 + Number(weights.readBigUInt64LE(0))))
      expect(header['model.layers.3.self_attn.q_proj.weight'].dtype).toBe('F16')
    },
    LONG,
  )
})

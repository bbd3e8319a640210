import { existsSync, readFileSync } from 'node:fs'
import { AxeBuilder } from '@axe-core/playwright'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { sampleIsThere, samplePath } from '../../../scripts/sample.mjs'
import { readGguf } from './gguf'
import { ADVANCED, choosePublished, compress, ENGINE, findBrowser, openSite, type Site, visit } from './harness'

const LONG = 600_000
const missing = [
  !findBrowser() && 'no Chromium was found (set CHROMIUM to its path)',
  !existsSync(ENGINE) && 'the engine has not been compiled',
  !sampleIsThere() && 'it has not been fetched (npm run sample)',
].filter(Boolean)
if (missing.length)
  console.warn(`SKIPPED: a real model of 135 million parameters in the page, because ${missing.join(' and ')}`)

describe.skipIf(missing.length > 0)('SmolLM2-135M in the page, on the CPU', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('real')
  })
  afterAll(() => site?.close())

  test(
    'from the server of the page to a smaller model that writes',
    async () => {
      const { page, requests, errors } = await visit(site, `${ADVANCED}&device=cpu`)
      const took = async (what: string, work: () => Promise<unknown>) => {
        const since = performance.now()
        await work()
        console.log(`SmolLM2-135M in Chromium on the CPU: ${what} ${((performance.now() - since) / 1000).toFixed(1)} s`)
      }
      await took('opened', async () => {
        await page.getByRole('button', { name: /^SmolLM2, a real model/ }).click()
        await page.getByRole('heading', { level: 1, name: 'SmolLM2-135M-Instruct.Q4_1' }).waitFor({ timeout: 120_000 })
      })
      expect(await page.locator('#model dl').innerText()).toMatch(/Layers\s+30, /)
      await fewPoints(page)
      await took('layers compared', async () => {
        await page.getByRole('button', { name: 'Compare the layers' }).click()
        await page.getByRole('button', { name: 'Compare the layers again' }).waitFor({ timeout: LONG })
      })
      await choosePublished(page)
      await took('two merges', () => compress(page, 2, LONG))
      console.log((await page.getByTestId('verdict').innerText()).replace(/\s+/g, ' '))
      await took('written and downloaded', async () => {
        const downloading = page.waitForEvent('download', { timeout: LONG })
        await page.getByRole('button', { name: 'Download the file' }).click()
        const written = readGguf(readFileSync(await (await downloading).path()))
        const original = readGguf(readFileSync(samplePath))
        expect(written.metadata.get('llama.block_count')).toBe(28)
        expect(
          written.tensors.get('token_embd.weight')!.bytes.equals(original.tensors.get('token_embd.weight')!.bytes),
        ).toBe(true)
      })
      await took('both models continue a text', async () => {
        await page.getByRole('button', { name: 'Continue with both' }).click()
        await page
          .getByRole('status')
          .filter({ hasText: 'Both models have written.' })
          .waitFor({ timeout: LONG, state: 'attached' })
      })
      console.log(await page.getByTestId('trial').innerText())
      expect(await page.getByTestId('trial-original').innerText()).toMatch(/^Once upon a time[, ].{40}/s)
      expect((await new AxeBuilder({ page }).analyze()).violations.map(({ id }) => id)).toEqual([])
      expect(requests.filter(url => new URL(url).origin !== new URL(site.url).origin)).toEqual([])
      expect(errors).toEqual([])
    },
    2 * LONG,
  )
})

/** As little text as the comparison can do with: 24 pieces, with four points in each. */
async function fewPoints(page: Page): Promise<void> {
  for (const [label, value] of [
    ['Sequences', '24'],
    ['Tokens in each', '32'],
  ] as const)
    await page.getByLabel(label).fill(value)
  await page.getByLabel('Points', { exact: true }).selectOption('tokens:4')
}

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { AxeBuilder } from '@axe-core/playwright'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ADVANCED, compress, ENGINE, findBrowser, openSite, saved, type Site, visit } from './harness'
import { privateFiles } from './storage'

const LONG = 300_000
const browser = findBrowser()
const real = existsSync(ENGINE)
if (!browser || !real)
  console.warn(
    `SKIPPED: how fast models run${browser ? ' that the engine has written' : ''}, because ${browser ? 'the engine has not been compiled' : 'no Chromium was found (set CHROMIUM to its path)'}`,
  )

const open = async (page: Page) => {
  await page.getByTestId('files').setInputFiles(join('tests/data/models/gguf', 'stories260K-F16.gguf'))
  await page.getByRole('button', { name: 'Compare the layers' }).click()
  await page.getByRole('button', { name: 'Compare the layers again' }).waitFor({ timeout: LONG })
}
const plain = (text: string) => text.replaceAll('\u00a0', ' ')
const numbers = (texts: readonly string[]) => texts.map(text => Number(text.replaceAll(',', '')))

// The mock engine writes the file that was opened, whatever the plan: llama.cpp is the real one with both.
describe.skipIf(!browser).each(real ? (['mock', 'real'] as const) : (['mock'] as const))(
  'how fast llama.cpp runs what the %s engine has made',
  engine => {
    let site: Site
    beforeAll(async () => {
      site = await openSite(engine)
    })
    afterAll(() => site?.close())

    test(
      'original and result side by side; a stop leaves the page as it was',
      async () => {
        const { page, errors } = await visit(site, `${ADVANCED}&device=cpu`)
        await open(page)
        await compress(page, 2, LONG)
        const part = page.getByTestId('speed')
        const measure = part.getByRole('button', { name: 'Measure how fast it runs' })
        await measure.click()
        await part.getByText(/Timing the (original|compressed) model, round 1 of 3/).waitFor({ timeout: LONG })
        await part.getByRole('button', { name: 'Stop', exact: true }).click()
        await measure.waitFor({ timeout: 30_000 })
        expect(await page.getByRole('alert').innerText()).toBe('')
        expect(await part.locator('table').count()).toBe(0)
        await measure.click()
        await part
          .getByRole('status')
          .filter({ hasText: /The compressed model writes/ })
          .waitFor({ timeout: LONG, state: 'attached' })
        const cells = await part
          .locator('tbody tr')
          .evaluateAll(rows => rows.map(row => [...row.children].map(cell => cell.textContent ?? '')))
        console.log(cells.map(row => row.join(' | ')).join('\n'))
        expect(cells.map(row => row[0])).toEqual([
          'Reads a prompt, tokens a second',
          'Writes, tokens a second',
          'Cache of 1000 tokens',
        ])
        for (const [, before = '', after = '', words = ''] of cells.slice(0, 2)) {
          for (const speed of numbers([before, after])) expect(speed).toBeGreaterThan(1)
          expect(plain(words)).toMatch(/^(as fast \(within \d+ %\)|\d+ % (faster|slower)|[\d.]+ times as fast)$/)
        }
        // 5 layers and 3, each 2 × 4 heads × 8 numbers × 1000 tokens × 2 bytes.
        expect(cells[2]!.slice(1).map(plain)).toEqual(['640 kB', '384 kB', '40 % less'])
        expect(plain(await part.innerText())).toMatch(
          /reads a prompt of 2\d\d tokens and writes 64 more, the fastest of 3 rounds/,
        )
        expect((await new AxeBuilder({ page }).include('#try').analyze()).violations.map(({ id }) => id)).toEqual([])
        await page.getByRole('button', { name: 'Continue with both' }).click()
        await page
          .getByRole('status')
          .filter({ hasText: 'Both models have written.' })
          .waitFor({ timeout: LONG, state: 'attached' })
        expect(errors).toEqual([])
      },
      LONG,
    )

    test(
      'the models that the verdicts of a comparison name: table, verdicts, read-out and files have the numbers',
      async () => {
        const { page, errors } = await visit(site, `${ADVANCED}&device=cpu`)
        await open(page)
        const panel = page.locator('#compare')
        await panel.getByRole('button', { name: 'None' }).click()
        await panel.getByRole('checkbox', { name: 'ShortGPT', exact: true }).check()
        await page.getByLabel('Numbers of layers').fill('1,3')
        await page.getByTestId('types').getByRole('checkbox', { name: 'Q8_0', exact: true }).check()
        await panel.getByLabel('Pieces of text').fill('12')
        await panel.getByRole('button', { name: /^Compare the methods/ }).click()
        await page.getByTestId('winner').waitFor({ timeout: LONG })
        const part = page.getByTestId('front-speed')
        const table = page.getByTestId('comparison')
        expect(await table.getByRole('columnheader').allInnerTexts()).not.toContain('generation, tokens/s')
        await part.getByRole('button', { name: 'Measure how fast they run' }).click()
        await part.getByText(/Timing .*, round 1 of 3/).waitFor({ timeout: LONG })
        await part.getByRole('button', { name: 'Stop', exact: true }).click()
        await part.getByRole('button', { name: 'Measure how fast they run' }).waitFor({ timeout: 30_000 })
        expect(await page.getByRole('alert').innerText()).toBe('')
        // Nothing of it stays in the private storage.
        await expect
          .poll(() => privateFiles(page).then(files => files.filter(file => file.endsWith('.gguf'))))
          .toEqual([])
        await part.getByRole('button', { name: 'Measure how fast they run' }).click()
        await part.getByRole('button', { name: 'Measure again how fast they run' }).waitFor({ timeout: LONG })
        const { bytes } = await saved(page, 'the comparison', 'JSON')
        const { speeds, rows } = JSON.parse(bytes.toString())
        console.log(JSON.stringify(speeds))
        expect([speeds.rounds, speeds.generated_tokens]).toEqual([3, 64])
        expect(speeds.models.length).toBeGreaterThanOrEqual(3)
        for (const { prompt, generation, cache, layers } of speeds.models) {
          expect(prompt).toBeGreaterThan(1)
          expect(generation).toBeGreaterThan(1)
          expect(cache).toBe(128_000 * layers)
        }
        const speedOf = (layers: number, dtype: string) =>
          speeds.models.find(
            (each: { layers: number; dtype: string }) => each.layers === layers && each.dtype === dtype,
          )
        // Two layers read a prompt faster than five; a busy machine may hide some of it.
        if (engine === 'real')
          expect((speedOf(2, 'keep') ?? speedOf(2, 'q8_0')).prompt).toBeGreaterThan(0.8 * speedOf(5, 'keep').prompt)
        expect(rows.length).toBe(4)
        const heads = (await table.getByRole('columnheader').allInnerTexts()).map(text => text.trim())
        const place = heads.indexOf('generation, tokens/s')
        const generation = numbers(
          (
            await table
              .locator('tbody tr')
              .evaluateAll((lines, at) => lines.map(line => line.children[at]?.textContent ?? ''), place)
          ).filter(text => /\d/.test(text)),
        )
        expect(generation).toHaveLength(speeds.models.length)
        for (const speed of generation) expect(speed).toBeGreaterThan(1)
        await page.getByText('The verdict at each size of the front').click()
        const verdicts = (await page.getByTestId('verdicts').locator('li').allInnerTexts()).map(plain)
        console.log(verdicts.join('\n'))
        expect(
          verdicts.filter(verdict => /(\d+ % (faster|slower)|as fast \(within \d+ %\)|times as fast)/.test(verdict))
            .length,
        ).toBeGreaterThan(0)
        await table.locator('tbody tr', { hasText: /\d/ }).first().hover()
        expect((await saved(page, 'the comparison', 'CSV')).bytes.toString().split('\n')[1]).toMatch(
          /,keep,,[\d.]+,[\d.]+,640000$/,
        )
        expect(plain((await saved(page, 'the comparison', 'Markdown')).bytes.toString())).toContain(
          '| prompt, tokens/s | generation, tokens/s | cache |',
        )
        expect((await new AxeBuilder({ page }).include('#compare').analyze()).violations.map(({ id }) => id)).toEqual(
          [],
        )
        expect(errors).toEqual([])
      },
      LONG,
    )
  },
)

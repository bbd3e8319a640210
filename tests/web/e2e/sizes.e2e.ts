import { existsSync } from 'node:fs'
import { AxeBuilder } from '@axe-core/playwright'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { bytesOf, ENGINE, findBrowser, openSite, runDemo, visit, type Site } from './harness'

const browser = findBrowser()
if (!browser)
  console.warn(
    'SKIPPED: the best model of a size in a browser, because no Chromium was found (set CHROMIUM to its path)',
  )
const LONG = 300_000

const bySize = (page: Page) => page.getByRole('radio', { name: /^The best model of a size/ })
const size = (page: Page) => page.getByTestId('size')
const search = (page: Page) => page.getByTestId('size-search')
const make = async (page: Page, timeout = 60_000) => {
  await page.getByRole('button', { name: 'Compress', exact: true }).click()
  await search(page).waitFor({ timeout })
}

describe.skipIf(!browser)('the best model of a size, with a mock engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('mock')
  })
  afterAll(() => site?.close())

  const chosen = async (page: Page) => {
    await runDemo(page)
    await bySize(page).check()
    await size(page).waitFor()
  }

  test('a size is chosen between what the model becomes and what it is; what was expected and measured stand beside each other', async () => {
    const { page, errors } = await visit(site)
    await chosen(page)
    expect(await page.getByTestId('remove').count()).toBe(0)
    const [least, most] = await Promise.all(
      ['min', 'max'].map(async name => Number(await size(page).getAttribute(name))),
    )
    expect(least).toBeLessThan(most! / 3)
    await size(page).fill(String(least! * 2))
    await make(page)
    const rows = await search(page).locator('tbody tr').allInnerTexts()
    expect(rows).toHaveLength(3)
    expect(rows[0]).toMatch(/^part by part\s+\d+\s/)
    expect(rows[1]).toMatch(/^Q4_0\s+12\s.*–/)
    // What is taken away is what was found.
    expect(await page.getByLabel('Format').inputValue()).toBe('gguf')
    expect(await page.getByLabel('Number type').inputValue()).toMatch(/^parts:/)
    expect(await page.getByTestId('unmeasured').count()).toBe(0)
    // Another size is another result.
    await size(page).press('ArrowRight')
    await page.getByText('The plan has changed since; compress again.').first().waitFor()
    expect(errors).toEqual([])
  })

  test('a number of layers is asked for again, and the search is gone', async () => {
    const { page } = await visit(site)
    await chosen(page)
    await make(page)
    await page.getByRole('radio', { name: 'Remove a number of layers' }).check()
    expect(await page.getByTestId('remove').count()).toBe(1)
    await page.getByRole('button', { name: 'Compress again' }).click()
    await search(page).waitFor({ state: 'detached' })
  })

  test('a reload shows the same result, as it is to be stored', async () => {
    const { page } = await visit(site)
    await chosen(page)
    await make(page)
    const said = await search(page).innerText()
    await page.reload()
    await search(page).waitFor()
    expect(await search(page).innerText()).toBe(said)
    expect(await bySize(page).isChecked()).toBe(true)
    expect(await page.getByLabel('Number type').inputValue()).toMatch(/^parts:/)
  })

  describe.each(['light', 'dark'] as const)('%s', colorScheme => {
    test('axe finds nothing, and nothing scrolls sideways', async () => {
      const { page } = await visit(site, '', {
        colorScheme,
        reducedMotion: 'reduce',
        viewport: { width: 390, height: 844 },
      })
      await chosen(page)
      await make(page)
      const violations = async (part: string) =>
        (await new AxeBuilder({ page }).include(part).analyze()).violations.map(
          v => `${v.id}: ${v.nodes.map(n => n.target).join(' ')}`,
        )
      expect([await violations('#plan'), await violations('#compress')]).toEqual([[], []])
      expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0)
    })
  })
})

describe.skipIf(!browser || !existsSync(ENGINE))('the best model of a size, with the compiled engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('real')
  })
  afterAll(() => site?.close())

  test(
    'the demo in half a megabyte: the file is no larger, and the best is the first',
    async () => {
      const { page, errors } = await visit(site, '?device=cpu')
      await runDemo(page, LONG)
      await bySize(page).check()
      await size(page).fill('500000')
      await page.getByTestId('plan-estimate').waitFor({ timeout: LONG })
      await make(page, LONG)
      const kl = (await search(page).locator('tbody td:last-child').allInnerTexts()).map(Number)
      expect(kl.length).toBeGreaterThan(2)
      expect(kl.every(each => each > 0)).toBe(true)
      expect(kl).toEqual(kl.toSorted((a, b) => a - b))
      const { name, bytes } = await bytesOf(page, () => page.getByRole('button', { name: 'Download the file' }).click())
      expect(name).toMatch(/\.gguf$/)
      expect(bytes.length).toBeLessThanOrEqual(500_000)
      expect(bytes.length).toBeGreaterThan(430_000)
      expect(errors).toEqual([])
    },
    LONG,
  )
})

import { AxeBuilder } from '@axe-core/playwright'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ADVANCED, bytesOf, compress, findBrowser, openSite, runDemo, visit, type Site } from './harness'

const browser = findBrowser()
if (!browser)
  console.warn('SKIPPED: the switch for advanced settings, because no Chromium was found (set CHROMIUM to its path)')

/** Settings of each stage that the switch shows, and of each stage some that are always there. */
const HIDDEN = ['Sequences', 'Sample', 'Similarity by', 'Locked layers', 'Which layers', 'Judge on', 'Largest file']
const BASIC = ['Text', 'Layers to remove', 'Format', 'Number type', 'Numbers of layers']

describe.skipIf(!browser)('the switch "Advanced"', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('mock')
  })
  afterAll(() => site?.close())

  const toggle = (page: Page) => page.getByRole('switch', { name: 'Advanced' })
  const note = (page: Page) => page.getByTestId('unusual')
  const counts = (page: Page, names: readonly string[]) =>
    Promise.all(names.map(name => page.getByLabel(new RegExp(`^${name}`)).count()))

  test('shows in all stages at once what most people never need, keeps its values, and is remembered', async () => {
    const { page, errors } = await visit(site)
    await runDemo(page)
    await compress(page, 7)
    expect(await counts(page, HIDDEN)).toEqual(HIDDEN.map(() => 0))
    expect((await counts(page, BASIC)).every(count => count > 0)).toBe(true)
    expect(await note(page).count()).toBe(0)
    await toggle(page).press('Space')
    await page.getByLabel('Sequences', { exact: true }).waitFor()
    expect((await counts(page, HIDDEN)).every(count => count > 0)).toBe(true)
    await page.getByLabel('Sequences', { exact: true }).fill('64')
    await page.getByLabel('Sequences', { exact: true }).blur()
    await page.getByLabel('Never merge the first layer').check()
    await toggle(page).press('Space')
    expect(await counts(page, HIDDEN)).toEqual(HIDDEN.map(() => 0))
    expect(await note(page).innerText()).toBe(
      '2 advanced settings differ from the usual ones: Sequences and Never merge the first layer. Show',
    )
    await note(page).getByRole('button', { name: 'Show' }).click()
    expect(await page.getByLabel('Sequences', { exact: true }).inputValue()).toBe('64')
    expect(await page.getByLabel('Never merge the first layer').isChecked()).toBe(true)
    expect(await note(page).count()).toBe(0)
    await page.reload()
    await page.getByTestId('restored').waitFor()
    expect(await toggle(page).isChecked()).toBe(true)
    await page.getByLabel('Sequences', { exact: true }).waitFor()
    expect(errors).toEqual([])
  })

  test('the address asks for it, until the user chooses otherwise', async () => {
    const { page } = await visit(site, `${ADVANCED}&device=cpu#model`)
    await runDemo(page)
    expect(await toggle(page).isChecked()).toBe(true)
    await toggle(page).uncheck()
    expect(new URL(page.url()).search).toBe('?device=cpu')
    await page.reload()
    await page.getByTestId('restored').waitFor()
    expect(await toggle(page).isChecked()).toBe(false)
    await page.goto(`${site.url}?advanced=on`)
    await page.getByTestId('restored').waitFor()
    expect(await toggle(page).isChecked()).toBe(true)
    // What an address asked for is not remembered.
    await page.goto(site.url)
    await page.getByTestId('restored').waitFor()
    expect(await toggle(page).isChecked()).toBe(false)
  })

  test('a plan that somebody shared says which of its settings are out of sight', async () => {
    const { page } = await visit(site, ADVANCED)
    await runDemo(page)
    await page.getByLabel('Never merge the last layer').check()
    await page.getByLabel('Longest run').fill('2')
    await page.getByLabel('Longest run').blur()
    await compress(page, 4)
    const shared = await bytesOf(page, () => page.getByRole('button', { name: 'The same as JSON' }).click())
    const { page: other } = await visit(site)
    await other
      .getByTestId('result-file')
      .setInputFiles({ name: shared.name, mimeType: 'application/json', buffer: shared.bytes })
    await other.getByTestId('unusual').waitFor()
    expect(await note(other).innerText()).toMatch(
      /^2 advanced settings differ from the usual ones: Longest run and Never merge the last layer\./,
    )
    await note(other).getByRole('button', { name: 'Show' }).click()
    expect(await other.getByLabel('Longest run').inputValue()).toBe('2')
    expect(await other.getByLabel('Never merge the last layer').isChecked()).toBe(true)
    expect(await toggle(other).isChecked()).toBe(true)
  })

  test.each([1280, 390, 320])(
    'axe finds nothing and nothing scrolls sideways at %d px',
    async width => {
      const { page } = await visit(site, '', { viewport: { width, height: 720 }, reducedMotion: 'reduce' })
      await runDemo(page)
      const check = async () =>
        (await new AxeBuilder({ page }).analyze()).violations.map(
          v => `${v.id}: ${v.nodes.map(n => n.target).join(' ')}`,
        )
      for (const on of [true, false]) {
        await toggle(page).setChecked(on)
        if (on) await page.getByLabel('Never merge the first layer').check()
        else await note(page).waitFor()
        expect(await check()).toEqual([])
        expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0)
      }
    },
    180_000,
  )
})

import { AxeBuilder } from '@axe-core/playwright'
import { existsSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  ADVANCED,
  bytesOf,
  choosePublished,
  compress,
  ENGINE,
  findBrowser,
  openSite,
  runDemo,
  saved,
  type Site,
  visit,
} from './harness'

const LONG = 240_000
const missing = [
  !findBrowser() && 'no Chromium was found (set CHROMIUM to its path)',
  !existsSync(ENGINE) && 'the engine has not been compiled',
].filter(Boolean)
if (missing.length) console.warn(`SKIPPED: healing with the engine, because ${missing.join(' and ')}`)

describe.skipIf(!findBrowser())('healing, with a mock engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('mock')
  })
  afterAll(() => site?.close())

  test('a model is healed, and its figures are those of the healed one', async () => {
    const { page, errors } = await visit(site)
    await runDemo(page)
    await compress(page, 4)
    const panel = page.getByTestId('heal')
    const before = await page
      .locator('#judge')
      .getByRole('row', { name: /^merged \d/ })
      .innerText()
    await panel.getByRole('button', { name: 'Heal the model' }).click()
    await panel.getByText(/^Healing step/).waitFor()
    await panel.getByTestId('healed').waitFor()
    expect(await panel.getByTestId('healed').innerText()).toMatch(/^Healing took away 40/)
    expect(await panel.getByRole('img').getAttribute('aria-label')).toMatch(/tokens of healing: 0, .*; 4,?608, /)
    expect(
      await page
        .locator('#judge')
        .getByRole('row', { name: /^merged \d/ })
        .innerText(),
    ).not.toBe(before)
    expect((await new AxeBuilder({ page }).include('[data-testid=heal]').analyze()).violations).toEqual([])
    const csv = await saved(page, 'the healing', 'CSV')
    expect(csv.bytes.toString().split('\n')[0]).toBe('tokens,perplexity,kl,top1_agreement,loss,seconds')
    expect(errors).toEqual([])
  })

  test('"good enough" keeps the best so far', async () => {
    const { page, errors } = await visit(site)
    await runDemo(page)
    await compress(page, 4)
    const panel = page.getByTestId('heal')
    await panel.getByRole('button', { name: 'Heal the model' }).click()
    await panel.getByText(/^Healing step ([5-9]|1\d)/).waitFor()
    await panel.getByRole('button', { name: 'Good enough' }).click()
    await panel.getByText('The healing was stopped before its end').waitFor()
    expect(await panel.getByTestId('healed').innerText()).toMatch(/^Healing took away/)
    expect(await page.getByRole('alert').innerText()).toBe('')
    await panel.getByRole('button', { name: 'Heal again' }).waitFor()
    expect(errors).toEqual([])
  })
})

describe.skipIf(missing.length > 0)('healing, with the compiled engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('real')
  })
  afterAll(() => site?.close())

  test(
    'the demo comes nearer its original, and the file that is handed out is the healed one',
    async () => {
      const { page, errors } = await visit(site, `${ADVANCED}&device=cpu`)
      await runDemo(page, LONG)
      await choosePublished(page)
      await compress(page, 8, LONG)
      const panel = page.getByTestId('heal')
      await panel.getByLabel('For').selectOption('1')
      await panel.getByRole('button', { name: 'Heal the model' }).click()
      // The loss is measured a few times in a minute; a few of these are enough.
      await page.waitForFunction(() => document.querySelectorAll('[data-testid=heal] circle').length > 3, undefined, {
        timeout: LONG,
      })
      await panel.getByRole('button', { name: 'Good enough' }).click()
      await panel.getByTestId('healed').waitFor({ timeout: LONG })
      const [before, now] = (await panel.getByTestId('healed').innerText())
        .match(/KL ([\d.]+)\snats before, ([\d.]+)\snats now/)!
        .slice(1)
        .map(Number)
      expect(now).toBeLessThan(before!)
      const { bytes } = await bytesOf(page, () => page.getByRole('button', { name: /^Download the model/ }).click())
      expect(bytes.length).toBeGreaterThan(1e5)
      expect(errors).toEqual([])
    },
    2 * LONG,
  )
})

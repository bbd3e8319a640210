import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { AxeBuilder } from '@axe-core/playwright'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { bytesOf, ENGINE, findBrowser, openSite, runDemo, saved, visit, type Site } from './harness'

const browser = findBrowser()
if (!browser) console.warn('SKIPPED: how far one can go, because no Chromium was found (set CHROMIUM to its path)')

const LONG = 600_000
const measure = (page: Page) => page.getByRole('button', { name: 'How far can I go?' })
const verdict = (page: Page) => page.getByTestId('far-verdict').innerText()
const idle = (page: Page, timeout = 60_000) =>
  page
    .locator('[data-run]')
    .waitFor({ state: 'detached', timeout })
    .then(() => page.getByTestId('far-verdict').waitFor())

describe.skipIf(!browser)('how far one can go', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('mock')
  })
  afterAll(() => site?.close())

  test('one run measures a curve, a slider on it is the plan, and another goal is looked for closer', async () => {
    const { page, errors } = await visit(site)
    await runDemo(page)
    await measure(page).click()
    await page.getByTestId('far-verdict').waitFor()
    await idle(page)
    const far = Number(/^(\d+) of 12 layers can go/.exec(await verdict(page))?.[1])
    expect(far).toBeGreaterThan(0)
    const table = (await saved(page, 'what removing layers costs', 'CSV')).bytes.toString().trim().split('\n')
    expect(table[0]).toBe('removed,bytes,perplexity,kl,top1_agreement,collapsed')
    expect(table[1]).toMatch(/^0,\d+,[\d.]+,0,1,0$/)
    expect(table[2]).toMatch(/^1,\d+,[\d.]+,[\d.]+,[\d.]+,0$/)
    expect((await saved(page, 'what removing layers costs', 'SVG')).bytes.toString()).toContain('KL, nats a token')
    const remove = page.getByTestId('remove')
    expect(await remove.inputValue()).toBe(String(far))
    await page.getByTestId('far-slider').fill('5')
    expect(await remove.inputValue()).toBe('5')
    expect(await page.getByTestId('far-reading').innerText()).toContain('5 removed')
    await page.getByLabel('Go on').selectOption('while 80 % of next words stay the same')
    const closer = page.getByRole('button', { name: 'Look closer' })
    if (await closer.isVisible()) await closer.click()
    await idle(page)
    expect(Number(/^(\d+) of 12/.exec(await verdict(page))?.[1])).toBeGreaterThanOrEqual(far)
    const found = await new AxeBuilder({ page }).include('#plan').analyze()
    expect(found.violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`)).toEqual([])
    // With another method what was measured is that of the one before.
    await page.getByRole('radio', { name: 'MKA, as published' }).check()
    await page.getByText('Measured with other settings than those chosen now.').waitFor()
    expect(errors).toEqual([])
  })

  test('a stop keeps what was measured', async () => {
    const { page } = await visit(site)
    await runDemo(page)
    await measure(page).click()
    await page.getByTestId('far-verdict').waitFor()
    const stop = page.getByRole('button', { name: 'Stop', exact: true })
    if (await stop.isVisible()) await stop.click({ timeout: 1000 }).catch(() => {})
    await idle(page)
    expect(await verdict(page)).not.toBe('')
  })

  test('what was measured outlives a reload with its goal and its plan, and goes when the text changes', async () => {
    const { page, errors } = await visit(site)
    await runDemo(page)
    await measure(page).click()
    await page.getByTestId('far-verdict').waitFor()
    await idle(page)
    await page.getByLabel('Go on').selectOption('while 80 % of next words stay the same')
    const [said, remove] = [await verdict(page), await page.getByTestId('remove').inputValue()]
    const again = async () => {
      await page.reload()
      await page.getByTestId('restored').waitFor()
      await expect.poll(() => page.getByTestId('device').textContent()).toContain('SwiftShader')
    }
    const holds = async () => {
      expect(await verdict(page)).toBe(said)
      expect(await page.getByLabel('Go on').inputValue()).toBe('0.8')
      expect(await page.getByTestId('remove').inputValue()).toBe(remove)
      expect(await page.getByRole('radio', { name: 'Laminate, recommended' }).isChecked()).toBe(true)
      expect(await page.getByText('Measured with other settings than those chosen now.').count()).toBe(0)
    }
    await again()
    await holds()
    await page.getByRole('button', { name: /^Compress$/ }).click()
    await page.getByTestId('verdict').waitFor()
    await again()
    await page.getByTestId('verdict').waitFor()
    await holds()
    await page.getByLabel('Text', { exact: true }).selectOption('own')
    await page.getByLabel('Text to run through the model').fill('Quite another text. '.repeat(400))
    await page.getByLabel('Text to run through the model').blur()
    await page.getByRole('button', { name: 'Compare the layers again' }).click()
    await measure(page).waitFor()
    expect(await page.getByTestId('far-verdict').count()).toBe(0)
    await again()
    await measure(page).waitFor()
    expect(await page.getByTestId('far-verdict').count()).toBe(0)
    expect(errors).toEqual([])
  })

  test('a report and a result file carry the curve, to be seen without the model', async () => {
    const { page, errors } = await visit(site)
    await runDemo(page)
    await measure(page).click()
    await page.getByTestId('far-verdict').waitFor()
    await idle(page)
    const said = await verdict(page)
    const result = await bytesOf(page, () => page.getByRole('button', { name: 'The same as JSON' }).click())
    expect(JSON.parse(result.bytes.toString())).toMatchObject({ form: 1, costs: { goal: 'jump', method: 'laminate' } })
    const report = await bytesOf(page, () => page.getByRole('button', { name: 'Save the report' }).click())
    for (const { name, bytes } of [result, report]) {
      const { page: other } = await visit(site)
      await other
        .getByTestId('result-file')
        .setInputFiles({ name, mimeType: 'application/octet-stream', buffer: bytes })
      await other.getByTestId('far-verdict').waitFor()
      expect(await verdict(other)).toBe(said)
      expect(await other.getByRole('img', { name: /^KL by layers removed: 1, / }).count()).toBe(1)
      expect(await other.getByTestId('far-slider').count()).toBe(0)
      const found = await new AxeBuilder({ page: other }).analyze()
      expect(found.violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`)).toEqual([])
      await other.context().close()
    }
    // The report is whole by itself, without this page.
    const folder = mkdtempSync(join(tmpdir(), 'laminate-far-'))
    writeFileSync(join(folder, 'report.html'), report.bytes)
    await page.goto(pathToFileURL(join(folder, 'report.html')).href)
    expect(await page.locator('section[aria-labelledby=far] tbody tr').count()).toBeGreaterThan(3)
    expect(await page.locator('section[aria-labelledby=far]').innerText()).toContain(said)
    rmSync(folder, { recursive: true })
    expect(errors).toEqual([])
  })

  test('three clicks lead from the demo to the download, each with its result in view at 1280 x 720', async () => {
    const { page } = await visit(site, '', { viewport: { width: 1280, height: 720 } })
    const inView = async (what: ReturnType<Page['locator']>) => {
      await what.waitFor()
      await expect
        .poll(async () => {
          const box = await what.boundingBox()
          return box && box.y >= 0 && box.y + Math.min(box.height, 200) <= 720
        })
        .toBe(true)
    }
    await page.getByRole('button', { name: 'Run the demo' }).click()
    const next = (name: string) => page.getByRole('button', { name })
    await next('Next: make it smaller').waitFor()
    await inView(page.locator('#see').getByRole('grid').first())
    await next('Next: make it smaller').click()
    await inView(page.getByTestId('result-card'))
    const downloading = page.waitForEvent('download')
    await next('Next: take it home').click()
    await downloading
    await inView(page.getByTestId('saved'))
    expect(await page.getByRole('button', { name: /^Next: / }).count()).toBe(0)
  })
})

describe.skipIf(!browser || !existsSync(ENGINE))('how far one can go, with the compiled engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('real')
  })
  afterAll(() => site?.close())

  test(
    'seven layers of the demo, which were planted; none of a model that needs all of its own',
    async () => {
      const { page } = await visit(site, '?device=cpu')
      await runDemo(page, LONG)
      await measure(page).click()
      await page.getByTestId('far-verdict').waitFor({ timeout: LONG })
      await idle(page, LONG)
      expect(await verdict(page)).toContain('7 of 12 layers can go.')
      expect(await verdict(page)).toContain('hardly changes')
      expect(await page.getByTestId('remove').inputValue()).toBe('7')

      await page.getByTestId('folder').setInputFiles('tests/data/models/stories260K')
      await page.getByRole('heading', { name: 'stories260K' }).waitFor({ timeout: LONG })
      await page.getByRole('button', { name: 'Compare the layers', exact: true }).click()
      await page.getByRole('button', { name: 'Compare the layers again' }).waitFor({ timeout: LONG })
      await measure(page).click()
      await page.getByTestId('far-verdict').waitFor({ timeout: LONG })
      await idle(page, LONG)
      expect(await verdict(page)).toContain('This model has little to give.')
    },
    2 * LONG,
  )
})

import { existsSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { compress, ENGINE, findBrowser, openSite, visit, type Site } from './harness'
import { privateFiles } from './storage'

const LONG = 300_000
const missing = [!findBrowser() && 'no Chromium was found (set CHROMIUM to its path)', !existsSync(ENGINE) && 'the engine has not been compiled'].filter(Boolean)
if (missing.length) console.warn(`SKIPPED: a graphics device that is lost, because ${missing.join(' and ')}`)

describe.skipIf(missing.length > 0)('a graphics device that is lost', () => {
  let site: Site
  beforeAll(async () => { site = await openSite('real') })
  afterAll(() => site?.close())

  /** The browser's process for graphics ends, as it does when a driver fails. */
  async function crash() {
    const browser = await site.browser.newBrowserCDPSession()
    await browser.send('Browser.crashGpuProcess')
    await browser.detach()
  }

  test('in the middle of a run: one sentence, and the CPU finishes it', async () => {
    const { page, errors } = await visit(site, '?device=gpu')
    await expect.poll(() => page.getByTestId('device').textContent(), { timeout: 60_000 }).toMatch(/WebGPU/)
    await page.getByRole('button', { name: 'Run the demo' }).click()
    await page.getByText(/^Running layer/).first().waitFor({ timeout: LONG })
    await crash()
    const alert = page.getByRole('alert').locator('[data-kind="device"]')
    await alert.waitFor({ timeout: 60_000 })
    expect(await alert.locator('p').innerText()).toMatch(/^The graphics device was lost( \(.*\))?\. Run the step again; if that happens once more, run it on the CPU\.$/)
    expect(await privateFiles(page)).toEqual([])
    await page.getByRole('button', { name: 'Run it on the CPU' }).click()
    await page.getByRole('button', { name: 'Compare the layers again' }).waitFor({ timeout: LONG })
    expect(await page.getByTestId('device').textContent()).toMatch(/CPU/)
    expect(await page.getByRole('alert').innerText()).toBe('')
    await compress(page, 7, LONG)
    expect(await page.getByRole('img', { name: /Strip of layers/ }).getAttribute('data-groups')).toBe('[0][1 2 3][4 5 6][7 8 9][10 11]')
    expect(errors).toEqual([])
  }, LONG)

  test('while nothing runs: the next run starts afresh', async () => {
    const { page } = await visit(site, '?device=gpu')
    await expect.poll(() => page.getByTestId('device').textContent(), { timeout: 60_000 }).toMatch(/WebGPU/)
    await crash()
    await page.waitForTimeout(1000)
    expect(await page.getByRole('alert').innerText()).toBe('')
    await page.getByRole('button', { name: 'Run the demo' }).click()
    const outcome = page.getByText(/^Running layer/).or(page.getByRole('alert').locator('[data-kind="device"]'))
    await outcome.first().waitFor({ timeout: LONG })
  }, LONG)
})

import { existsSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { choosePublished, compress, ENGINE, findBrowser, groupsOf, openSite, type Site, visit } from './harness'
import { privateFiles } from './storage'

const LONG = 300_000
const missing = [
  !findBrowser() && 'no Chromium was found (set CHROMIUM to its path)',
  !existsSync(ENGINE) && 'the engine has not been compiled',
].filter(Boolean)
if (missing.length) console.warn(`SKIPPED: a graphics device that is lost, because ${missing.join(' and ')}`)

describe.skipIf(missing.length > 0)('a graphics device that is lost', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('real')
  })
  afterAll(() => site?.close())

  /** The browser's process for graphics ends, as it does when a driver fails. */
  async function crash() {
    const browser = await site.browser.newBrowserCDPSession()
    await browser.send('Browser.crashGpuProcess')
    await browser.detach()
  }

  test(
    'twice in the middle of a run: it goes on by itself with what was kept, and the CPU finishes it',
    async () => {
      const { page, errors } = await visit(site, '?device=gpu')
      await expect.poll(() => page.getByTestId('device').textContent(), { timeout: 60_000 }).toMatch(/WebGPU/)
      await page.getByRole('button', { name: 'Run the demo' }).click()
      await page
        .getByText(/^Running layer [2-9]/)
        .first()
        .waitFor({ timeout: LONG })
      await crash()
      const remark = page.getByTestId('remark')
      await remark
        .getByText('The graphics device was lost; the run goes on with what was kept, on')
        .waitFor({ timeout: 60_000 })
      // A browser whose graphics failed may hand out no other device: then the CPU has taken over already.
      const again = page.getByText(/^Running layer/).first()
      await again.waitFor({ timeout: LONG })
      expect(await again.innerText()).not.toMatch(/layer 1 of/)
      if (/on a new device/.test(await remark.innerText())) await crash()
      await remark.getByText('on the CPU').waitFor({ timeout: 60_000 })
      await page.getByRole('button', { name: 'Compare the layers again' }).waitFor({ timeout: LONG })
      expect(await page.getByTestId('device').textContent()).toMatch(/CPU/)
      expect(await page.getByRole('alert').innerText()).toBe('')
      await page.getByText(/^The first \d+ layers were computed on .* before the run went on, on CPU/).waitFor()
      expect(await privateFiles(page)).toEqual([])
      await choosePublished(page)
      await compress(page, 7, LONG)
      expect(await groupsOf(page)).toBe('[0][1 2 3][4 5 6][7 8 9][10 11]')
      expect(errors).toEqual([])
    },
    LONG,
  )

  test(
    'while nothing runs: the next run starts afresh',
    async () => {
      const { page } = await visit(site, '?device=gpu')
      await expect.poll(() => page.getByTestId('device').textContent(), { timeout: 60_000 }).toMatch(/WebGPU/)
      await crash()
      await page.waitForTimeout(1000)
      expect(await page.getByRole('alert').innerText()).toBe('')
      await page.getByRole('button', { name: 'Run the demo' }).click()
      const outcome = page.getByText(/^Running layer/).or(page.getByRole('alert').locator('[data-kind="device"]'))
      await outcome.first().waitFor({ timeout: LONG })
    },
    LONG,
  )
})

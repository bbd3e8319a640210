import { AxeBuilder } from '@axe-core/playwright'
import { existsSync, readFileSync } from 'node:fs'
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
  type Site,
  visit,
  visitWith,
} from './harness'
import { keptFiles, pickerAnswers } from './storage'

const MODEL = 'tests/data/models/stories260K'
const LONG = 120_000
const missing = [
  !findBrowser() && 'no Chromium was found (set CHROMIUM to its path)',
  !existsSync(ENGINE) && 'the engine has not been compiled',
].filter(Boolean)
if (missing.length) console.warn(`SKIPPED: long runs, because ${missing.join(' and ')}`)

/** Reloads like a user who means it. */
async function reload(page: Page): Promise<void> {
  page.once('dialog', dialog => void dialog.accept())
  await page.reload()
}

async function pauseAt(page: Page, layer: RegExp): Promise<void> {
  await page.getByText(layer).first().waitFor()
  await page.getByRole('button', { name: 'Pause' }).click()
  await page.getByText(/^Paused before/).waitFor()
}

describe.skipIf(!findBrowser())('long runs, with a mock engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('mock')
  })
  afterAll(() => site?.close())

  /** A run of some seconds. */
  async function slow(page: Page, sequences = '1024'): Promise<void> {
    await page.getByLabel('Sequences').fill(sequences)
    await page.getByLabel('Sequences').press('Tab')
  }

  test('a run is paused, goes on, and its parts are named apart', async () => {
    const { page, errors } = await visit(site, ADVANCED)
    await runDemo(page)
    await slow(page)
    await page.getByRole('button', { name: 'Compare the layers again' }).click()
    await pauseAt(page, /^Running layer [2-4] of 12/)
    const shown = await page.getByText(/^Paused before/).innerText()
    await page.waitForTimeout(500)
    expect(await page.getByText(/^Paused before/).innerText()).toBe(shown)
    expect(await page.getByTestId('parts').innerText()).toMatch(
      /Computing\s+layer \d+ of 12[\s\S]*Keeping\s+\d.* in this browser, the first (layer|\d layers)/,
    )
    expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([])
    await page.getByRole('button', { name: 'Go on' }).click()
    await page
      .getByText(/^Running layer/)
      .first()
      .waitFor()
    await page.getByRole('button', { name: 'Compare the layers again' }).waitFor({ timeout: 30_000 })
    expect(errors).toEqual([])
  })

  test('a second tab says what runs in the first, waits, and takes over', async () => {
    const { page } = await visit(site, ADVANCED)
    await runDemo(page)
    await slow(page)
    const other = await page.context().newPage()
    await other.goto(site.url)
    await other.getByTestId('restored').waitFor()
    await page.getByRole('button', { name: 'Compare the layers again' }).click()
    await other
      .getByTestId('elsewhere')
      .getByText(/^Another tab of this browser is comparing the layers of stories-planted-12L/)
      .waitFor()
    await other.getByTestId('remove').fill('3')
    await other.getByRole('button', { name: /^Compress/ }).click()
    await other.getByText(/This run begins when that ends\./).waitFor()
    await page.getByRole('button', { name: 'Compare the layers again' }).waitFor({ timeout: 30_000 })
    await other.getByTestId('verdict').waitFor({ timeout: 30_000 })
    expect(await other.getByTestId('elsewhere').count()).toBe(0)
    // A tab that is closed in the middle leaves its turn, and what it finished, to the others.
    await page.getByRole('button', { name: 'Compare the layers again' }).click()
    await page
      .getByText(/^Running layer [3-9] of 12/)
      .first()
      .waitFor()
    await other.getByTestId('elsewhere').waitFor()
    await page.close()
    await other
      .getByTestId('interrupted')
      .getByRole('button', { name: /^Go on at layer/ })
      .click()
    await other.getByTestId('interrupted').waitFor({ state: 'detached' })
    await other.getByRole('button', { name: 'Compare the layers again' }).waitFor({ timeout: 30_000 })
  })

  test('a folder that the browser can open by itself: one click goes on after a reload', async () => {
    const { page } = await visit(site, ADVANCED)
    await pickerAnswers(page, 'mine')
    const files = ['config.json', 'model.safetensors', 'tokenizer.json'].map(
      name => [name, readFileSync(`${MODEL}/${name}`, 'base64')] as const,
    )
    await page.evaluate(async files => {
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('mine', { create: true })
      for (const [name, base64] of files) {
        const file = await (await folder.getFileHandle(name, { create: true })).createWritable()
        await file.write(Uint8Array.from(atob(base64), letter => letter.charCodeAt(0)))
        await file.close()
      }
    }, files)
    await page.getByRole('button', { name: 'Open a model' }).click()
    await slow(page, '2048')
    await page.getByRole('button', { name: 'Compare the layers' }).click()
    await pauseAt(page, /^Running layer [2-4] of 5/)
    await reload(page)
    await page.getByRole('button', { name: /^Go on at layer [2-5] of 5/ }).click()
    await page.getByRole('button', { name: 'Compare the layers again' }).waitFor({ timeout: 30_000 })
    await page.getByRole('heading', { level: 1, name: 'mine' }).waitFor()
    await reload(page)
    await page.getByTestId('restored').waitFor()
    await compress(page, 1)
  })

  test('a result and its plan outlive a reload, and are forgotten when asked', async () => {
    const { page, errors } = await visit(site, ADVANCED)
    await runDemo(page)
    await compress(page, 7)
    await page.getByTestId('kept').getByText('This result outlives a reload.').waitFor()
    await reload(page)
    await page
      .getByTestId('restored')
      .getByText(/^Stored result of .*stories-planted-12L/)
      .waitFor()
    expect(await groupsOf(page)).toBe('[0][1 2 3][4 5 6][7 8 9][10 11]')
    expect(await page.getByTestId('verdict').innerText()).toMatch(/Perplexity 7.81/)
    expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([])
    await compress(page, 3)
    await page.getByRole('button', { name: 'Forget it' }).click()
    await expect.poll(() => keptFiles(page)).toEqual([])
    await reload(page)
    await page.getByText('Stored result; run it live.').waitFor()
    expect(await page.getByTestId('restored').count()).toBe(0)
    expect(errors).toEqual([])
  })

  test('a result is there after a reload at any place of the page, and in the walk, with what it proposed', async () => {
    const { page, errors } = await visit(site, ADVANCED)
    await runDemo(page)
    expect(await page.getByTestId('remove').inputValue()).toBe('7')
    const proposed = await groupsOf(page)
    await page.getByRole('link', { name: /^Compress/ }).click()
    await reload(page)
    await page.getByTestId('restored').waitFor()
    expect(new URL(page.url()).hash).toBe('#plan')
    expect(await page.getByTestId('remove').inputValue()).toBe('7')
    expect(await groupsOf(page)).toBe(proposed)
    await page.goto(`${site.url}#walk/kernel`)
    await reload(page)
    await page.getByRole('button', { name: 'Back to the page' }).waitFor()
    await page.keyboard.press('Escape')
    await page.getByTestId('restored').waitFor()
    // A plan that was made stays, whatever the similarities would propose.
    await compress(page, 3)
    await reload(page)
    await page.getByTestId('restored').waitFor()
    expect(await page.getByTestId('remove').inputValue()).toBe('3')
    expect(errors).toEqual([])
  })

  test('a model that the browser cannot open by itself is asked for, and recognised', async () => {
    const { page } = await visit(site, ADVANCED)
    await page.getByTestId('folder').setInputFiles(MODEL)
    await slow(page, '2048')
    await page.getByRole('button', { name: 'Compare the layers' }).click()
    await pauseAt(page, /^Running layer [2-4] of 5/)
    await reload(page)
    await page
      .getByTestId('interrupted')
      .getByText(/Open the same model again and it goes on at layer [2-5] of 5\./)
      .waitFor()
    expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([])
    await page.getByTestId('folder').setInputFiles(MODEL)
    await page.getByRole('button', { name: 'Compare the layers again' }).waitFor({ timeout: 30_000 })
    expect(await page.getByLabel('Sequences').inputValue()).toBe('2048')
  })

  test('a browser without storage runs, and says once that nothing is kept', async () => {
    const { page } = await visit(site, ADVANCED)
    await page.addInitScript(() => {
      Object.defineProperty(StorageManager.prototype, 'getDirectory', {
        value: () => Promise.reject(new DOMException('no', 'SecurityError')),
      })
    })
    await page.reload()
    await page.getByRole('button', { name: 'Run the demo' }).click()
    await page
      .getByTestId('remark')
      .getByText(/^Finished layers and results are not kept: this browser gives the page no storage\./)
      .waitFor()
    await page.getByRole('button', { name: 'Compare the layers again' }).waitFor({ timeout: 30_000 })
  })
})

describe.skipIf(missing.length > 0)('long runs, with the compiled engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('real')
  })
  afterAll(() => site?.close())

  test(
    'a reload in the middle: the run goes on where it was, with the same result',
    async () => {
      const { page, errors } = await visit(site, `${ADVANCED}&device=cpu`)
      await runDemo(page, LONG)
      const whole = await matrix(page)
      await page.getByRole('button', { name: 'Forget it' }).click()
      await page.getByRole('button', { name: 'Compare the layers again' }).click()
      await pauseAt(page, /^Running layer [3-8] of 12/)
      expect((await keptFiles(page)).some(name => /^states-000/.test(name))).toBe(true)
      await reload(page)
      const interrupted = page.getByTestId('interrupted')
      await interrupted.getByText(/stopped after layer \d+ of 12/).waitFor()
      const at = Number(/after layer (\d+)/.exec(await interrupted.innerText())?.[1])
      expect(at).toBeGreaterThan(1)
      const ran: string[] = []
      await page.exposeFunction('ran', (text: string) => ran.push(text))
      await page.evaluate(() =>
        new MutationObserver(() => {
          const text = /Running layer \d+/.exec(document.querySelector('#see')?.textContent ?? '')?.[0]
          if (text) void (window as unknown as { ran(text: string): void }).ran(text)
        }).observe(document.body, { subtree: true, childList: true, characterData: true }),
      )
      await interrupted.getByRole('button', { name: `Go on at layer ${at + 1} of 12` }).click()
      await page.getByRole('button', { name: 'Compare the layers again' }).waitFor({ timeout: LONG })
      expect(await matrix(page)).toEqual(whole)
      expect(ran.length).toBeGreaterThan(0)
      expect(ran).not.toContain('Running layer 1')
      // What is finished is opened again without running a layer, and merged as if it had never been closed.
      await reload(page)
      await page.getByTestId('restored').waitFor()
      await choosePublished(page)
      await compress(page, 7, LONG)
      expect(await groupsOf(page)).toBe('[0][1 2 3][4 5 6][7 8 9][10 11]')
      expect(errors).toEqual([])
    },
    2 * LONG,
  )

  function matrix(page: Page): Promise<string[]> {
    return page
      .locator('#see')
      .getByRole('gridcell')
      .evaluateAll(cells => cells.map(cell => cell.getAttribute('aria-label') ?? ''))
  }

  test('a plan that is stopped between two fits goes on after a reload, and ends as one that is not', async () => {
    const { page, errors } = await visit(site, `${ADVANCED}&device=cpu`)
    await runDemo(page, 120_000)
    const fitted = async () => (await keptFiles(page)).filter(name => /^fitted-[0-9a-f]+$/.test(name))
    await page.getByTestId('remove').fill('5')
    await page.getByRole('button', { name: /^Compress/ }).click()
    await expect.poll(async () => (await fitted()).length, { timeout: 60_000, interval: 50 }).toBeGreaterThan(0)
    expect(await page.getByTestId('verdict').count()).toBe(0)
    await reload(page)
    await page
      .getByTestId('remark')
      .getByText(/^Compressing was stopped before its end\./)
      .waitFor()
    expect(await page.getByTestId('remove').inputValue()).toBe('5')
    const before = await fitted()
    expect(before.length).toBeGreaterThan(0)
    await page.getByRole('button', { name: /^Compress/ }).click()
    await page.getByTestId('verdict').waitFor({ timeout: 120_000 })
    const verdict = await page.getByTestId('verdict').innerText()
    expect(await fitted()).toEqual(expect.arrayContaining(before))
    expect(await page.getByTestId('remark').count()).toBe(0)
    await page.getByRole('button', { name: 'Forget it' }).click()
    await expect.poll(() => keptFiles(page)).toEqual([])
    await page.reload()
    await runDemo(page, 120_000)
    await compress(page, 5, 120_000)
    expect(await page.getByTestId('verdict').innerText()).toBe(verdict)
    expect(errors).toEqual([])
  }, 400_000)
})

/** Collects what nothing refers to while the browser still looks for the answer, which a long run does by chance. */
const COLLECTING = `
const access = FileSystemFileHandle.prototype.createSyncAccessHandle
FileSystemFileHandle.prototype.createSyncAccessHandle = function () {
  const answer = access.call(this)
  setTimeout(gc)
  gc()
  return answer
}`

test.skipIf(!findBrowser())('a run that keeps its layers outlives every collection of garbage', async () => {
  const site = await openSite('mock', ['--js-flags=--expose-gc'])
  try {
    const page = await visitWith(site, COLLECTING)
    await runDemo(page)
    expect((await keptFiles(page)).some(name => /^states-/.test(name))).toBe(true)
  } finally {
    await site.close()
  }
})

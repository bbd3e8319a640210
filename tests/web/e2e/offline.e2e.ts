import { cpSync } from 'node:fs'
import { join } from 'node:path'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { buildSite, compress, findBrowser, runDemo, startBrowser } from './harness'
import { hostedCopy, publishNext, type PlainHost } from './plain'

const found = findBrowser()
if (!found)
  console.warn('SKIPPED: the page without a network, because no Chromium was found (set CHROMIUM to its path)')

describe.skipIf(!found)('the page in a folder of a plain host, with a mock engine', () => {
  let browser: Browser
  let built: string
  let folder: string
  let host: PlainHost
  let end: (() => void) | undefined
  let context: BrowserContext
  beforeAll(async () => {
    ;[built, browser] = await Promise.all([buildSite('mock'), startBrowser()])
  })
  afterAll(() => browser?.close())
  beforeEach(async () => {
    ;({ folder, host, end } = await hostedCopy(built))
    context = await browser.newContext({ acceptDownloads: true })
  })
  afterEach(async () => {
    await context?.close()
    end?.()
  })

  async function visit(path = ''): Promise<{ page: Page; errors: string[] }> {
    const page = await context.newPage()
    const errors: string[] = []
    page.on('pageerror', error => errors.push(error.message))
    page.on('console', message => {
      if (message.type() === 'error') errors.push(message.text())
    })
    await page.goto(host.url + path)
    return { page, errors }
  }
  const kept = (page: Page) => page.getByTestId('kept').waitFor({ timeout: 10_000 })
  /** Runs the demo, of which an earlier run may be back already. */
  const compareAnew = (page: Page) =>
    page
      .getByRole('button', { name: /^(Run the demo|Compare the layers again)$/ })
      .first()
      .click()
  const version = (page: Page) =>
    page.evaluate(() => getComputedStyle(document.documentElement).getPropertyValue('--version').trim())

  test('after one visit with the demo it needs no network, from opening to download', async () => {
    const { page, errors } = await visit()
    await kept(page)
    // Most visitors bring a model: the demo's own file is fetched when the demo is run, and kept from then on.
    expect(host.asked.filter(path => /planes/.test(path))).toEqual([])
    await runDemo(page)
    expect(host.asked.filter(path => /planes/.test(path)).length).toBe(1)
    // Loaded by few, and larger than all the rest together.
    expect(host.asked.filter(path => /llama/.test(path))).toEqual([])
    host.down = true
    await page.close()
    const again = await visit('?device=cpu#anything')
    await compareAnew(again.page)
    await compress(again.page, 7)
    expect(await again.page.getByTestId('device').textContent()).toContain('CPU')
    const downloading = again.page.waitForEvent('download')
    await again.page.getByRole('button', { name: 'Download a zip' }).click()
    expect((await downloading).suggestedFilename()).toBe('stories-planted-12L-laminated-5L.zip')
    // The worker for downloads was never asked for with a network: the zip is made in the storage instead.
    expect(
      [...errors, ...again.errors].filter(text => !/ERR_|Failed to load resource|fetching the script/.test(text)),
    ).toEqual([])
  })

  test('it can be used before the engine has arrived, and what needs the engine waits for it', async () => {
    let release = () => {}
    const released = new Promise<void>(resolve => (release = resolve))
    await context.route(/assets\/worker-/, async route => {
      await released
      await route.continue()
    })
    const { page, errors } = await visit()
    const cell = page.getByRole('gridcell', { name: /^layers 2 and 3: similarity 0.93/ }).first()
    await cell.hover()
    await page.getByText(/^Layers 2 and 3: similarity 0.93/).waitFor()
    await page.getByLabel('Colours of the page').selectOption('dark')
    await expect.poll(() => page.getByTestId('device').innerText()).toBe('Loading the engine')
    await page.getByRole('button', { name: 'run it live' }).click()
    await page.locator('#model').getByRole('button', { name: 'Cancel' }).waitFor()
    release()
    await page.getByRole('button', { name: 'Compare the layers again' }).waitFor()
    expect(await page.getByText('Stored result').count()).toBe(0)
    expect(errors).toEqual([])
  })

  test('what it offers to install is there: manifest, icons in their sizes', async () => {
    const { page } = await visit()
    const manifest = await page.evaluate(async () => {
      const address = document.querySelector<HTMLLinkElement>('link[rel=manifest]')!.href
      const manifest = await (await fetch(address)).json()
      const sides = await Promise.all(
        manifest.icons.map(async ({ src, sizes }: { src: string; sizes: string }) => {
          const image = new Image()
          image.src = new URL(src, address).href
          await image.decode()
          return `${sizes} ${image.naturalWidth}x${image.naturalHeight}`
        }),
      )
      return { ...manifest, sides, start: new URL(manifest.start_url, address).href }
    })
    expect(manifest).toMatchObject({ name: 'Laminate', display: 'standalone', start: host.url })
    expect(manifest.sides).toEqual(['192x192 192x192', '512x512 512x512', '512x512 512x512'].concat('180x180 180x180'))
    // Chromium's own opinion on whether the page can be installed.
    await kept(page)
    const inspector = await context.newCDPSession(page)
    const { installabilityErrors } = await inspector.send('Page.getInstallabilityErrors')
    expect(installabilityErrors.map(({ errorId }) => errorId).filter(id => id !== 'in-incognito')).toEqual([])
  })

  test('opens a file that the system opens with it', async () => {
    await context.addInitScript(() => {
      const launchQueue = {
        setConsumer: (consume: (launch: unknown) => void) =>
          consume({ files: [{ getFile: async () => new File(['GGUF'], 'mine.gguf') }] }),
      }
      Object.defineProperty(window, 'launchQueue', { value: launchQueue })
    })
    const { page } = await visit()
    await page.getByRole('heading', { level: 1, name: 'mine.gguf' }).waitFor()
  })

  test('a new version is announced, waits for a run, fetches what has changed and takes over when it is told', async () => {
    const { page } = await visit()
    await kept(page)
    publishNext(folder)
    host.asked.length = 0
    await page.reload()
    const announced = page.getByTestId('update')
    await announced.getByText('A new version of this page is ready.').waitFor()
    expect(await version(page)).toBe('')
    expect(host.asked.filter(path => path.startsWith('assets/')).map(path => path.split('.').at(-1))).toEqual(['css'])
    const reload = announced.getByRole('button', { name: 'Reload with the new version' })
    await page.getByRole('button', { name: 'Run the demo' }).click()
    await expect.poll(() => reload.isDisabled()).toBe(true)
    await announced.getByText('A step is running').waitFor()
    await page.getByRole('button', { name: 'Compare the layers again' }).waitFor()
    expect(await version(page)).toBe('')
    await Promise.all([page.waitForEvent('load'), reload.click()])
    expect(await version(page)).toBe('2')
    await kept(page)
    expect(await announced.count()).toBe(0)
    host.down = true
    await page.reload()
    expect(await version(page)).toBe('2')
    // Of the old version nothing stays.
    const styles = await page.evaluate(
      async () =>
        (await (await caches.open((await caches.keys())[0]!)).keys()).filter(({ url }) => /index-.*\.css/.test(url))
          .length,
    )
    expect(styles).toBe(1)
  })

  test('two tabs: the new version takes over neither', async () => {
    const { page } = await visit()
    await kept(page)
    const other = await visit()
    await runDemo(other.page)
    publishNext(folder)
    await page.reload()
    const announced = page.getByTestId('update')
    await announced.getByRole('button', { name: 'Reload with the new version' }).click()
    await announced.getByText('Another tab of this page is open.').waitFor()
    await compress(other.page, 1)
    await other.page.close()
    await Promise.all([
      page.waitForEvent('load'),
      announced.getByRole('button', { name: 'Reload with the new version' }).click(),
    ])
    expect(await version(page)).toBe('2')
  })

  test('a host in the middle of an update gives nothing away: the old version stays whole', async () => {
    const { page } = await visit()
    await kept(page)
    publishNext(folder)
    // The style sheet of the new version has not arrived on the host yet.
    cpSync(join(built, 'assets'), join(folder, 'assets'), { recursive: true })
    await page.reload()
    await expect
      .poll(() => page.evaluate(async () => (await navigator.serviceWorker.getRegistration())?.installing ?? null))
      .toBeNull()
    expect(await page.getByTestId('update').count()).toBe(0)
    await runDemo(page)
    host.down = true
    await page.reload()
    await compareAnew(page)
    await compress(page, 7)
  })
})

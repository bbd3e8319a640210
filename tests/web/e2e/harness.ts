import { existsSync, readFileSync } from 'node:fs'
import { chromium, type Browser, type BrowserContextOptions, type Download, type Page } from 'playwright-core'
import { preview, type PreviewServer } from 'vite'
import { inject } from 'vitest'
import type { Pages } from './pages'

export { ENGINE } from './pages'
export type Engine = keyof Pages

/** The browser to test in: `CHROMIUM`, or where Linux distributions and macOS put one. */
export function findBrowser(): string | null {
  const known = [
    process.env.CHROMIUM,
    '/usr/bin/chromium',
    '/usr/bin/chromium-browser',
    '/usr/bin/google-chrome',
    '/usr/bin/google-chrome-stable',
    '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
  ]
  return known.find(path => path && existsSync(path)) ?? null
}

export interface Site {
  url: string
  browser: Browser
  close(): Promise<void>
}

/** The folder of the built page. All test files have the same one, and none changes it. */
export async function buildSite(engine: Engine): Promise<string> {
  return inject('pages')[engine]
}

/** @param flags besides those of every test */
export function startBrowser(flags: string[] = []): Promise<Browser> {
  const executablePath = findBrowser()
  if (!executablePath) throw new Error('no browser')
  return chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--enable-unsafe-webgpu', '--disable-dev-shm-usage', ...flags],
  })
}

/** Serves the page as a visitor would get it, and starts a browser. */
export async function openSite(engine: Engine, flags: string[] = []): Promise<Site> {
  const outDir = await buildSite(engine)
  const server: PreviewServer = await preview({
    logLevel: 'warn',
    build: { outDir },
    preview: { port: 0, host: '127.0.0.1' },
  })
  const url = server.resolvedUrls?.local[0]
  if (!url) throw new Error('no address')
  const browser = await startBrowser(flags)
  return {
    url,
    browser,
    close: async () => {
      await browser.close()
      await server.close()
    },
  }
}

export interface Visit {
  page: Page
  /** Addresses of all requests, of the page and of its workers. */
  requests: string[]
  /** Uncaught errors and policy violations. */
  errors: string[]
}

/** A new page in a context of its own: its storage is its own too. */
export async function visit(site: Site, path = '', options: BrowserContextOptions = {}): Promise<Visit> {
  const context = await site.browser.newContext({
    viewport: { width: 1440, height: 900 },
    acceptDownloads: true,
    ...options,
  })
  const page = await context.newPage()
  const requests: string[] = []
  const errors: string[] = []
  context.on('request', request => requests.push(request.url()))
  context.on('weberror', error => errors.push(error.error().message))
  page.on('pageerror', error => errors.push(error.message))
  page.on('console', message => {
    if (message.type() === 'error') errors.push(message.text())
  })
  await page.goto(site.url + path)
  return { page, requests, errors }
}

/** A visit on which the engine's worker runs `before`, a script, before anything else. */
export async function visitWith(site: Site, before: string, path = ''): Promise<Page> {
  const context = await site.browser.newContext({ viewport: { width: 1440, height: 900 }, serviceWorkers: 'block' })
  const page = await context.newPage()
  await context.route(/\/worker[^/]*\.js/, async route => {
    const response = await route.fetch()
    await route.fulfill({ response, body: `${before}\n${await response.text()}` })
  })
  await page.goto(site.url + path)
  return page
}

/** The page with all its settings, as the switch "Advanced" shows them. */
export const ADVANCED = '?advanced=on'

/** The layers of the present plan in the runs that become one: "[0][1 2 3]". */
export function groupsOf(page: Page): Promise<string | null> {
  return page.getByRole('toolbar', { name: 'Layers, to lock or unlock' }).getAttribute('data-groups')
}

/** Clicks through the demo until its layers have been compared. */
export async function runDemo(page: Page, timeout = 30_000): Promise<void> {
  await page.getByRole('button', { name: 'Run the demo' }).click()
  await page.getByRole('button', { name: 'Compare the layers again' }).waitFor({ timeout })
}

/** MKA as it was published, whose merges are measured one after the other, instead of the recommended method. */
export async function choosePublished(page: Page): Promise<void> {
  await page.getByRole('radio', { name: 'MKA, as published' }).check()
}

export async function compress(page: Page, remove: number, timeout = 30_000): Promise<void> {
  await page.getByTestId('remove').fill(String(remove))
  await page.getByRole('button', { name: /^Compress( again)?$/ }).click()
  await page.getByTestId('verdict').waitFor({ timeout })
}

/** What an act on the page hands out. */
export async function bytesOf(page: Page, act: () => Promise<void>): Promise<{ name: string; bytes: Buffer }> {
  const downloading: Promise<Download> = page.waitForEvent('download')
  await act()
  const download = await downloading
  return { name: download.suggestedFilename(), bytes: readFileSync(await download.path()) }
}

/** Saves a figure by its menu: `what` as the button names it, in one of its formats. */
export function saved(page: Page, what: string, format: string): Promise<{ name: string; bytes: Buffer }> {
  return bytesOf(page, async () => {
    await page.getByRole('button', { name: `Save ${what}`, exact: true }).click()
    await page
      .getByRole('group', { name: `Save ${what} as` })
      .getByRole('button', { name: new RegExp(`^${format}`) })
      .click()
  })
}

/** The page itself cancels its run as soon as it says `text`: a mock writes faster than a busy machine clicks. */
export async function cancelAt(page: Page, text: string): Promise<void> {
  await page.evaluate(said => {
    const watch = new MutationObserver(() => {
      const cancel = [...document.querySelectorAll('button')].find(each => each.textContent?.trim() === 'Cancel')
      if (!cancel || !document.body.textContent?.includes(said)) return
      watch.disconnect()
      cancel.click()
    })
    watch.observe(document.body, { childList: true, subtree: true, characterData: true })
  }, text)
}

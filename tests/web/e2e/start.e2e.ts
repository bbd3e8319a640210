import { existsSync } from 'node:fs'
import type { Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { SCREENS } from '../../../www/words/screens'
import { ENGINE, findBrowser, openSite, runDemo, visit, type Site } from './harness'

const browserPath = findBrowser()
if (!browserPath)
  console.warn('SKIPPED: when the engine is started, because no Chromium was found (set CHROMIUM to its path)')

/** Longer than an idle moment of the browser is waited for. */
const IDLE_AND_MORE_MS = 4500
const real = existsSync(ENGINE)

describe.skipIf(!browserPath)('when the engine is started', () => {
  let site: Site
  const open: Page[] = []
  beforeAll(async () => {
    site = await openSite(real ? 'real' : 'mock')
  })
  afterEach(() => Promise.all(open.splice(0).map(page => page.context().close())))
  afterAll(() => site?.close())

  const engineOf = (requests: string[]) =>
    requests.map(url => new URL(url).pathname).filter(path => /\/assets\/(worker-.*\.js|.*\.wasm)$/.test(path))

  /** A page whose browser is never idle, or never says so. */
  async function busyPage(path: string, idle: 'never' | 'unknown' = 'never') {
    const context = await site.browser.newContext({ viewport: { width: 1440, height: 900 } })
    await context.addInitScript(idle => {
      if (idle === 'never') window.requestIdleCallback = () => 0
      else Reflect.deleteProperty(window, 'requestIdleCallback')
    }, idle)
    const page = await context.newPage()
    open.push(page)
    const requests: string[] = []
    context.on('request', request => requests.push(request.url()))
    await page.goto(site.url + path)
    return { page, requests }
  }
  const asked = (requests: string[]) => expect.poll(() => engineOf(requests).length).toBeGreaterThan(0)

  test('not while the walk is read, and after it', async () => {
    const { page, requests } = await visit(site, '?device=cpu#walk')
    open.push(page)
    await page.getByRole('heading', { name: SCREENS[0]!.title, exact: true }).waitFor()
    await page.waitForTimeout(IDLE_AND_MORE_MS)
    await page.keyboard.press('ArrowRight')
    await page.waitForTimeout(500)
    expect(await page.evaluate(() => location.hash)).not.toBe('#walk')
    expect(engineOf(requests)).toEqual([])
    // Nor does what keeps the page for later fetch the engine.
    expect(await page.evaluate(async () => (await navigator.serviceWorker.getRegistrations()).length)).toBe(0)
    await page.keyboard.press('Escape')
    await page.getByRole('dialog').waitFor({ state: 'detached' })
    await asked(requests)
    if (real) await expect.poll(() => engineOf(requests).filter(path => path.endsWith('.wasm')).length).toBe(1)
    await page
      .getByTestId('device')
      .getByText(/^Computes on/)
      .waitFor({ timeout: 60_000 })
  })

  test('files over the walk start it', async () => {
    const { page, requests } = await visit(site, '?device=cpu#walk')
    open.push(page)
    await page.getByRole('heading', { name: SCREENS[0]!.title, exact: true }).waitFor()
    expect(engineOf(requests)).toEqual([])
    await page.evaluate(() => dispatchEvent(new DragEvent('dragenter')))
    await asked(requests)
  })

  test('at the first sign of a pointer or of the focus on what leads to it', async () => {
    const { page, requests } = await busyPage('?device=cpu')
    const demo = page.getByRole('button', { name: 'Run the demo' })
    await demo.waitFor()
    // Elsewhere a pointer means nothing.
    await page.getByRole('gridcell').first().hover()
    await page.getByRole('link', { name: 'How it works' }).hover()
    expect(await page.getByTestId('device').innerText()).toMatch(/^The engine starts when you need it/)
    expect(engineOf(requests)).toEqual([])
    await demo.hover()
    await asked(requests)

    const other = await busyPage('?device=cpu')
    await other.page.getByRole('button', { name: 'Open a model' }).focus()
    await asked(other.requests)
  })

  test('by one click on the demo, which then runs', async () => {
    const { page } = await busyPage('?device=cpu')
    await runDemo(page, 60_000)
    expect(await page.getByTestId('device').innerText()).toMatch(/^Computes on/)
  })

  test('when nothing else is to do, also in a browser that does not say so', async () => {
    const { requests } = await busyPage('?device=cpu', 'unknown')
    await asked(requests)
    const { page, requests: others } = await visit(site, '?device=cpu')
    open.push(page)
    await asked(others)
  })

  test.each([1440, 390])('nothing moves when it has started, %i pixels wide', async width => {
    const { page } = await busyPage('?device=cpu')
    await page.setViewportSize({ width, height: 900 })
    const box = page.getByTestId('device')
    await box.scrollIntoViewIfNeeded()
    // The last part of the page is there.
    await page.getByRole('contentinfo').waitFor()
    await page.waitForTimeout(300)
    await page.evaluate(() => {
      const moved: string[] = []
      type Shift = PerformanceEntry & { sources: { node: Node; previousRect: DOMRect; currentRect: DOMRect }[] }
      new PerformanceObserver(list => {
        for (const { sources } of list.getEntries() as Shift[])
          for (const { node, previousRect, currentRect } of sources)
            moved.push(`${node.textContent?.trim()}: from ${previousRect.top} to ${currentRect.top}`)
      }).observe({ type: 'layout-shift' })
      Object.assign(window, { moved })
    })
    await page.evaluate(() => dispatchEvent(new DragEvent('dragenter')))
    await box.getByText(/^Computes on/).waitFor({ timeout: 60_000 })
    await page.waitForTimeout(300)
    expect(await page.evaluate(() => (window as unknown as { moved: string[] }).moved)).toEqual([])
  })
})

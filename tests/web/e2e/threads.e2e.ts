import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { build } from 'vite'
import { ISOLATING } from '../../../www/offline/isolation'
import { buildSite, ENGINE, findBrowser, startBrowser } from './harness'
import { writeWideLlama } from './hollow'
import { hostedCopy, type PlainHost } from './plain'
import type { Checked } from './poolcheck'

const missing = [
  !findBrowser() && 'no Chromium was found (set CHROMIUM to its path)',
  !existsSync(ENGINE) && 'the engine has not been compiled',
].filter(Boolean)
if (missing.length) console.warn(`SKIPPED: products on several threads, because ${missing.join(' and ')}`)

const LONG = 120_000

describe.skipIf(missing.length > 0)('a page that a plain host serves', () => {
  let browser: Browser
  let folder: string
  let host: PlainHost
  let end: (() => void) | undefined
  let context: BrowserContext
  beforeAll(async () => {
    browser = await startBrowser()
  })
  afterAll(() => browser?.close())
  beforeEach(async () => {
    ;({ folder, host, end } = await hostedCopy(await buildSite('real')))
    context = await browser.newContext({ acceptDownloads: true })
  })
  afterEach(async () => {
    await context?.close()
    end?.()
  })

  async function visit(): Promise<{ page: Page; loads: () => number; errors: string[] }> {
    const page = await context.newPage()
    const errors: string[] = []
    let loads = 0
    page.on('load', () => loads++)
    page.on('pageerror', error => errors.push(error.message))
    page.on('console', message => {
      if (message.type() === 'error') errors.push(message.text())
    })
    await page.goto(`${host.url}?device=cpu&advanced=on`)
    return { page, loads: () => loads, errors }
  }
  const device = (page: Page) => page.getByTestId('device').textContent()
  const isolated = (page: Page) => page.evaluate(() => crossOriginIsolated)
  const squares = (page: Page) =>
    page.locator('[data-value]').evaluateAll(cells => cells.map(cell => (cell as SVGElement).dataset.value))

  async function compareWide(page: Page): Promise<(string | undefined)[]> {
    const model = join(folder, 'wide.gguf')
    if (!existsSync(model)) writeWideLlama(model)
    await page.locator('input[type=file]').first().setInputFiles(model)
    await page.getByRole('heading', { level: 1, name: /wide/ }).waitFor()
    await page.getByLabel('Sequences').fill('24')
    await page.getByRole('button', { name: /^Compare the layers/ }).click()
    await page.getByRole('button', { name: 'Compare the layers again' }).waitFor({ timeout: LONG })
    return squares(page)
  }

  test(
    'multiplies on all cores from its second load on, never loads itself again, and finds the same to the last digit',
    async () => {
      const first = await visit()
      await expect.poll(() => device(first.page), { timeout: 60_000 }).toMatch(/CPU \(wasm SIMD/)
      expect(await isolated(first.page)).toBe(false)
      expect(await device(first.page)).not.toContain('cores')
      await first.page.getByText(/^It uses one core, because the server/).waitFor()
      await first.page.getByTestId('kept').waitFor({ timeout: 10_000 })
      const alone = await compareWide(first.page)
      expect(alone.length).toBe(16)
      expect(first.loads()).toBe(1)
      const second = await visit()
      await expect.poll(() => device(second.page), { timeout: 60_000 }).toMatch(/, on \d+ cores/)
      expect(await isolated(second.page)).toBe(true)
      expect(await compareWide(second.page)).toEqual(alone)
      expect(second.loads()).toBe(1)
      expect([...first.errors, ...second.errors]).toEqual([])
    },
    2 * LONG,
  )

  test(
    'the pool multiplies as the definition says, with and without fused multiply-adds',
    async () => {
      await build({
        configFile: false,
        logLevel: 'warn',
        base: './',
        publicDir: false,
        build: {
          outDir: join(folder, 'pool'),
          target: 'es2023',
          rollupOptions: {
            input: 'tests/web/e2e/poolcheck.ts',
            output: { entryFileNames: 'check.js' },
            preserveEntrySignatures: 'strict',
          },
        },
        worker: { format: 'es' },
      })
      // Some hosts send the headers themselves.
      host.headers = ISOLATING
      const { page } = await visit()
      expect(await isolated(page)).toBe(true)
      const checked = await page.evaluate(async address => {
        const worker = new Worker(address, { type: 'module' })
        return new Promise<(Checked | string)[]>((resolve, reject) => {
          worker.onmessage = ({ data }) => resolve(data)
          worker.onerror = event => reject(new Error(event.message || 'the worker did not start'))
          worker.postMessage('check')
        })
      }, `${host.url}pool/check.js`)
      for (const each of checked) {
        expect(each).toBeTypeOf('object')
        const { threads, products } = each as Checked
        expect(threads).toBeGreaterThan(1)
        for (const { error, changed } of products) {
          expect(error).toBeLessThan(1e-3)
          expect(changed).toBe(0)
        }
      }
    },
    LONG,
  )
})

// The page for benchmarks: built, served, and open in a real Chromium without a screen.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import { build, preview } from 'vite'
import { browserFlags, findBrowser } from '../../scripts/browser.mjs'

/**
 * The page with the `mock` engine or the compiled one, its address, and what closes all of it; null where there is no
 * Chromium, which is said of the benchmark `name`. The profile is on disk: one without has only a share of the memory
 * for storage. `alone`: as from a host that does not let threads share memory.
 */
export async function openPage(name, mode = 'production', { alone = false } = {}) {
  const executablePath = findBrowser()
  if (!executablePath) {
    console.log(`${name}: there is no Chromium (CHROMIUM names one)`)
    return null
  }
  const [outDir, profile] = ['site', 'profile'].map(what => mkdtempSync(join(tmpdir(), `laminate-${what}-`)))
  await build({ mode, logLevel: 'warn', build: { outDir, emptyOutDir: true } })
  const server = await preview({ mode, logLevel: 'warn', build: { outDir }, preview: { port: 0, host: '127.0.0.1' } })
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath,
    acceptDownloads: true,
    args: browserFlags(),
    viewport: { width: 1440, height: 900 },
  })
  if (alone) {
    await browser.route('**/*', async route => {
      const response = await route.fetch()
      const { 'cross-origin-embedder-policy': _, ...headers } = response.headers()
      await route.fulfill({ response, headers })
    })
  }
  return {
    page: browser.pages()[0] ?? (await browser.newPage()),
    address: server.resolvedUrls?.local[0] ?? '',
    close: async () => {
      await browser.close()
      await server.close()
      for (const folder of [outDir, profile]) rmSync(folder, { recursive: true, force: true })
    },
  }
}

/**
 * Stages of a run in a page that computes on the CPU. Lines begin with `name`; a stage that fails throws what the page
 * says of it.
 */
export async function stagesOf({ page, address }, name, longest) {
  page.setDefaultTimeout(longest)
  page.on('pageerror', error => console.log(`${name}: ${error.message}`))
  await page.goto(`${address}?device=cpu`)
  await page.getByText('Computes on the CPU').waitFor()
  const said = text => console.log(`${name}: ${text.replace(/\s+/g, ' ').trim()}`)
  const timed = async (stage, act, seen) => {
    const start = performance.now()
    await act()
    const failed = page.getByRole('alert')
    await Promise.race([
      seen().waitFor(),
      failed.waitFor().then(async () => {
        throw new Error(await failed.innerText())
      }),
    ])
    const seconds = (performance.now() - start) / 1e3
    said(`${stage} ${seconds.toFixed(1)} s`)
    return seconds
  }
  return {
    said,
    timed,
    open: path =>
      timed(
        'open',
        () => page.getByTestId('files').setInputFiles(path),
        () => page.getByRole('button', { name: 'Compare the layers' }),
      ),
    /** `sequences` of `tokens` tokens, with four points in each. */
    async compareLayers(sequences, tokens) {
      await page.getByLabel('Sequences').fill(String(sequences))
      await page.getByLabel('Tokens in each').fill(String(tokens))
      await page.getByLabel('Points', { exact: true }).selectOption('tokens:4')
      await page.getByLabel('Tokens in each').press('Tab')
      const estimate = page.getByTestId('estimate')
      await estimate.getByText(`in ${sequences} sequences`).waitFor()
      said(await estimate.innerText())
      return timed(
        'similarity',
        () => page.getByRole('button', { name: 'Compare the layers' }).click(),
        () => page.getByRole('button', { name: 'Compare the layers again' }),
      )
    },
  }
}

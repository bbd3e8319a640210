// The page for benchmarks: built, served, and open in a real Chromium without a screen.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import { build, preview } from 'vite'
import { browserFlags, findBrowser } from '../../www/build/browser.mjs'

/**
 * The page with the `mock` engine or the compiled one, its address, and what closes all of it; null where there is no
 * Chromium, which is said of the benchmark `name`. The profile is on disk: one without has only a share of the memory
 * for storage.
 */
export async function openPage(name, mode = 'production') {
  const executablePath = findBrowser()
  if (!executablePath) {
    console.log(`${name}: there is no Chromium (CHROMIUM names one)`)
    return null
  }
  const [outDir, profile] = ['site', 'profile'].map(what => mkdtempSync(join(tmpdir(), `laminate-${what}-`)))
  await build({ mode, logLevel: 'warn', build: { outDir, emptyOutDir: true } })
  const server = await preview({ mode, logLevel: 'warn', build: { outDir }, preview: { port: 0, host: '127.0.0.1' } })
  const browser = await chromium.launchPersistentContext(profile, { executablePath, acceptDownloads: true, args: browserFlags(), viewport: { width: 1440, height: 900 } })
  return {
    page: browser.pages()[0] ?? await browser.newPage(),
    address: server.resolvedUrls?.local[0] ?? '',
    close: async () => {
      await browser.close()
      await server.close()
      for (const folder of [outDir, profile]) rmSync(folder, { recursive: true, force: true })
    },
  }
}

import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { findFirefox } from '../../../scripts/browser.mjs'
import { Firefox } from './firefox'
import { buildSite, ENGINE } from './harness'
import { plainHost, type PlainHost } from './plain'

const program = findFirefox()
const missing = [
  !program && 'no Firefox was found (set FIREFOX to its path)',
  !existsSync(ENGINE) && 'the engine has not been compiled',
].filter(Boolean)
if (missing.length) console.warn(`SKIPPED: the page in Firefox, because ${missing.join(' and ')}`)

const LONG = 300_000
const button = (name: string) => `//button[normalize-space()="${name}"]`

/** The one file in a folder of downloads, once it is whole. */
async function savedReport(folder: string): Promise<string> {
  await expect
    .poll(() => readdirSync(folder).filter(name => name.endsWith('.html')).length, { timeout: 60_000 })
    .toBe(1)
  await expect
    .poll(() => readdirSync(folder).filter(name => name.endsWith('.part')).length, { timeout: 60_000 })
    .toBe(0)
  return join(folder, readdirSync(folder)[0]!)
}

/** Everything that went wrong since the page was opened. */
const errors = () => (window as unknown as { wrong?: string[] }).wrong ?? []

describe.skipIf(missing.length > 0)('the page in Firefox, with the compiled engine, from a plain host', () => {
  let firefox: Firefox
  let host: PlainHost
  const downloads = mkdtempSync(join(tmpdir(), 'laminate-downloads-'))
  /** One that sees no folder but its own (as a snap) cannot be driven, which is no fault of the page. */
  let unable = ''
  beforeAll(async () => {
    try {
      firefox = await Firefox.start(program!, { 'browser.download.dir': downloads })
    } catch (error) {
      unable = `${program} could not be driven (${error})`
      return console.warn(`SKIPPED: the page in Firefox, because ${unable}`)
    }
    host = await plainHost(await buildSite('real'))
  }, LONG)
  beforeEach(context => {
    if (unable) context.skip(unable)
  })
  afterAll(async () => {
    await firefox?.close()
    host?.close()
    rmSync(downloads, { recursive: true, force: true })
  })

  const listen = (browser = firefox) =>
    browser.evaluate(() => {
      const wrong: string[] = ((window as unknown as { wrong: string[] }).wrong = [])
      addEventListener('error', event => wrong.push(event.message))
      addEventListener('unhandledrejection', event => wrong.push(String(event.reason)))
      addEventListener('securitypolicyviolation', event =>
        wrong.push(`${event.effectiveDirective} ${event.blockedURI}`),
      )
    })

  test(
    'the demo on the CPU: seen, compressed to the planted groups',
    async () => {
      await firefox.goto(host.url)
      await listen()
      await firefox.until(/Computes on the CPU/)
      expect(await firefox.evaluate(() => document.querySelectorAll('[role=gridcell]').length)).toBe(144)
      await firefox.click(button('Run the demo'))
      await firefox.until(/Compare the layers again/, LONG)
      await firefox.evaluate(() => {
        const input = document.querySelector<HTMLInputElement>('[data-testid=remove]')!
        input.value = '7'
        for (const type of ['input', 'change']) input.dispatchEvent(new Event(type, { bubbles: true }))
      })
      // Averages, which are quick.
      await firefox.evaluate(() =>
        document.querySelector<HTMLInputElement>('[role=radiogroup] input[aria-labelledby$="-mka"]')!.click(),
      )
      await firefox.click(button('Compress'))
      const text = await firefox.until(/Perplexity\s+7\.\d+/, LONG)
      expect(text).toContain('12 layers became 5')
      expect(await firefox.evaluate(() => document.querySelector<HTMLElement>('[data-groups]')!.dataset.groups)).toBe(
        '[0][1 2 3][4 5 6][7 8 9][10 11]',
      )
      expect(await firefox.evaluate(errors)).toEqual([])
      expect(await firefox.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0)
    },
    LONG,
  )

  test(
    'the report and the link of that result, in a fresh profile, with nothing to ask',
    async () => {
      await firefox.click(button('Save the report'))
      const report = await savedReport(downloads)
      const link = await firefox.evaluate(
        () => [...document.querySelectorAll('input')].find(input => input.value.includes('#result='))!.value,
      )
      const fresh = await Firefox.start(program!)
      try {
        await fresh.goto(link)
        await listen(fresh)
        await fresh.until(/View only/)
        await fresh.until(/Perplexity\s+7\.\d+/)
        host.down = true
        expect(await fresh.evaluate(() => document.querySelector<HTMLElement>('[data-groups]')!.dataset.groups)).toBe(
          '[0][1 2 3][4 5 6][7 8 9][10 11]',
        )
        await fresh.evaluate(() => document.querySelector<SVGElement>('[data-cell="2-1"]')!.focus())
        await fresh.until(/Layers 1 and 2: similarity 0\.9\d\d/)
        expect(await fresh.evaluate(errors)).toEqual([])

        await fresh.goto(pathToFileURL(report).href)
        await listen(fresh)
        await fresh.until(/stories-planted-12L/)
        await fresh.evaluate(() => {
          const picture = document.getElementById('heatmap')!
          picture.focus()
          for (const key of ['ArrowDown', 'ArrowDown', 'ArrowRight'])
            picture.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }))
        })
        await fresh.until(/Layers 1 and 2: similarity 0\.9\d\d/)
        expect(await fresh.evaluate(() => document.querySelectorAll('svg[data-map=left] circle').length)).toBe(128)
        expect(await fresh.evaluate(errors)).toEqual([])
      } finally {
        host.down = false
        await fresh.close()
      }
    },
    LONG,
  )

  test(
    'once more, without a network',
    async () => {
      await firefox.until(/are kept in this browser/)
      host.down = true
      // The last result is shown again; it is computed anew.
      await firefox.goto(`${host.url}?device=cpu#model`)
      await listen()
      await firefox.until(/Compare the layers again/)
      await firefox.click(button('Compare the layers again'))
      await firefox.until(/Cancel/)
      await firefox.until(/Compare the layers again/, LONG)
      await firefox.until(/Computes on the CPU/)
      expect(await firefox.evaluate(errors)).toEqual([])
    },
    LONG,
  )
})

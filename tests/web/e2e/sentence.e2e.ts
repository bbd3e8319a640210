import { existsSync, readFileSync } from 'node:fs'
import { AxeBuilder } from '@axe-core/playwright'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { OPENING, TEXT_TOKENS } from '../../../www/walk/opening'
import { ENGINE, findBrowser, openSite, visit, type Site } from './harness'

const missing = [
  !findBrowser() && 'no Chromium was found (set CHROMIUM to its path)',
  !existsSync(ENGINE) && 'the engine has not been compiled',
].filter(Boolean)
if (missing.length) console.warn(`SKIPPED: a sentence of one's own in the walk, because ${missing.join(' and ')}`)

/** The demo takes seconds, and minutes where other tests compute beside it. */
const LONG = 600_000
/** What the first of the stored texts is, all of its tokens. */
const stories = readFileSync('src/demo/text.txt', 'utf8')
const FIRST = stories.slice(0, stories.indexOf('Then, it dec') + 'Then, it dec'.length)

describe.skipIf(missing.length > 0)("a sentence of one's own, read by the compiled engine", () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('real')
  })
  afterAll(() => site?.close())

  const opened = async (fragment = '#walk/map', options = {}) => {
    const visited = await visit(site, `?device=cpu${fragment}`, { reducedMotion: 'reduce', ...options })
    await visited.page.getByRole('heading', { name: 'A map of the layer' }).waitFor()
    return visited
  }
  const show = async (page: Page, sentence: string) => {
    await page.getByLabel('Your own sentence').fill(sentence)
    await page.getByRole('button', { name: 'Show it' }).click()
  }
  const texts = (page: Page) => page.locator('dialog circle.dot').count()
  /** How far the diamond is from a stored text, in pixels. */
  const away = (page: Page, text: number) =>
    page
      .locator('dialog .picture svg')
      .first()
      .evaluate((picture, text) => {
        const dot = picture.querySelectorAll('circle.dot')[text]!
        const [, x, y] = /^M([\d.]+) ([\d.]+)l/.exec(picture.querySelector('path.own')!.getAttribute('d')!)!
        return Math.hypot(Number(dot.getAttribute('cx')) - Number(x), Number(dot.getAttribute('cy')) - 9 - Number(y))
      }, text)

  test(
    'lies where its activations are: a stored text on itself in every layer, another one elsewhere',
    async () => {
      const { page, errors } = await opened()
      expect(await texts(page)).toBe(128)
      await show(page, FIRST)
      await page.getByText(`The diamond is yours: ${TEXT_TOKENS} of ${TEXT_TOKENS} tokens.`).waitFor({ timeout: LONG })
      expect(await texts(page)).toBe(129)
      for (const layer of [0, 4, 7, 11]) {
        await page.getByRole('slider', { name: 'Layer', exact: true }).fill(String(layer))
        expect([layer, (await away(page, 0)) < 1]).toEqual([layer, true])
        expect([layer, (await away(page, 1)) > 5]).toEqual([layer, true])
      }
      await show(page, 'The little dog wanted to play in the park.')
      await page
        .getByText(/^The diamond is yours: 1\d of 47 tokens\. The end of a short story/)
        .waitFor({ timeout: LONG })
      expect(await away(page, 0)).toBeGreaterThan(5)
      expect(await page.locator('dialog .choice.one select').inputValue()).toBe('128')
      // It is there in the next steps, and the page below knows nothing of it.
      for (const [step, title, pictures] of [
        ['two-maps', 'Two layers, two maps', 2],
        ['information', 'What one map tells about the other', 2],
        ['walk', 'A walk from text to text', 1],
      ] as const) {
        await page.evaluate(step => {
          location.hash = `#walk/${step}`
        }, step)
        await page.getByRole('heading', { name: title }).waitFor()
        expect(await page.locator('dialog path.own').count()).toBe(pictures)
      }
      await page.evaluate(() => {
        location.hash = '#walk/map'
      })
      await page.getByRole('button', { name: 'Take it out' }).click()
      expect(await texts(page)).toBe(128)
      expect(await page.locator('dialog .choice.one select').inputValue()).toBe('7')
      await page.getByRole('button', { name: 'Back to the page' }).click()
      expect(await page.getByRole('button', { name: 'Run the demo' }).isVisible()).toBe(true)
      expect(errors).toEqual([])
    },
    2 * LONG,
  )

  test(
    'the opening has the tokens that it is counted by, and what cannot be read is said in a sentence',
    async () => {
      const { page } = await opened()
      await show(page, '   ')
      await page.getByText('Type a sentence first.').waitFor()
      // All of the opening is one token too long.
      await show(page, OPENING)
      await page
        .getByText('Your sentence has 48 tokens, and the texts here have 47; shorten it a little.')
        .waitFor({ timeout: LONG })
      expect(await texts(page)).toBe(128)
      await show(page, OPENING.replace('One day ', 'One '))
      await page.getByText('The diamond is yours: 47 of 47 tokens.').waitFor({ timeout: LONG })
      // Signs that the vocabulary does not have are bytes.
      await show(page, '猫 <b>&amp;</b> \u0000 é')
      await page.getByText(/The diamond is yours: [12]\d of 47 tokens\. The end/).waitFor({ timeout: LONG })
      expect(await texts(page)).toBe(129)
    },
    2 * LONG,
  )

  test(
    'fits a small projector, is accessible, and says so where no engine can start',
    async () => {
      const { page } = await opened('#walk/map', { viewport: { width: 1280, height: 720 } })
      await show(page, 'She was happy.')
      await page.getByText(/The diamond is yours/).waitFor({ timeout: LONG })
      await expect
        .poll(() => page.locator('dialog').evaluate(dialog => dialog.scrollHeight - dialog.clientHeight))
        .toBeLessThanOrEqual(0)
      const { violations } = await new AxeBuilder({ page }).include('dialog').analyze()
      expect(violations.map(({ id }) => id)).toEqual([])
      const context = await site.browser.newContext({ reducedMotion: 'reduce', serviceWorkers: 'block' })
      const without = await context.newPage()
      await without.route(/laminate_bg/, route => route.abort())
      await without.goto(`${site.url}#walk/map`)
      await without.getByRole('heading', { name: 'A map of the layer' }).waitFor()
      await show(without, 'She was happy.')
      await without.getByText('The engine could not be loaded').waitFor()
      expect(await without.locator('dialog circle.dot').count()).toBe(128)
      await context.close()
    },
    2 * LONG,
  )
})

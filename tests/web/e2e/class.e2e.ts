import { AxeBuilder } from '@axe-core/playwright'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { SCREENS, type ScreenId } from '../../../www/words/screens'
import { findBrowser, openSite, visit, type Site } from './harness'

const browser = findBrowser()
if (!browser) console.warn('SKIPPED: class mode of the walk, because no Chromium was found (set CHROMIUM to its path)')

const titleOf = (id: ScreenId) => SCREENS.find(screen => screen.id === id)!.title
const arrived = (page: Page, id: ScreenId) => page.getByRole('heading', { name: titleOf(id), exact: true }).waitFor()

describe.skipIf(!browser)('class mode', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('mock')
  })
  afterAll(() => site?.close())

  test('class mode fills the screen, and ends with the walk', async () => {
    const viewport = { width: 1920, height: 1080 }
    const { page } = await visit(site, '#walk', { viewport, reducedMotion: 'reduce' })
    await arrived(page, 'stream')
    const zoom = () => page.locator('dialog .screen').evaluate(step => Number((step as HTMLElement).style.zoom || 1))
    expect(await zoom()).toBe(1)
    await page.getByRole('button', { name: 'Class mode' }).click()
    await expect.poll(() => page.evaluate(() => document.fullscreenElement !== null)).toBe(true)
    await expect.poll(zoom).toBeGreaterThan(1)
    await page.keyboard.press('ArrowRight')
    await arrived(page, 'tokens')
    await expect
      .poll(() => page.locator('dialog').evaluate(dialog => dialog.scrollHeight - dialog.clientHeight))
      .toBeLessThanOrEqual(0)
    await page.getByRole('button', { name: 'Back to the page' }).click()
    await expect.poll(() => page.evaluate(() => document.fullscreenElement)).toBe(null)
    await page.getByRole('link', { name: 'How it works' }).click()
    await arrived(page, 'stream')
    expect(await page.getByRole('button', { name: 'Reset' }).count()).toBe(0)
  })

  test.each([
    [1280, 720],
    [1366, 768],
  ])(
    'in class mode, %i x %i, small type is larger, words are no smaller, and each step fits',
    async (width, height) => {
      const { page } = await visit(site, '#walk', { viewport: { width, height }, reducedMotion: 'reduce' })
      /** Sizes in pixels of the screen: of the words, and of what is read below the picture or of the controls. */
      const sizes = () =>
        page.locator('dialog .screen').evaluate(step => {
          const zoom = Number((step as HTMLElement).style.zoom || 1)
          return ['.words p', '.read, .controls, .formula p'].map(
            part => parseFloat(getComputedStyle(step.querySelector(part)!).fontSize) * zoom,
          )
        })
      const over = () => page.locator('dialog').evaluate(dialog => dialog.scrollHeight - dialog.clientHeight)
      const fits = (id: ScreenId) => expect.poll(over, { message: id }).toBeLessThanOrEqual(0)
      const usual: number[][] = []
      for (const { id } of SCREENS) {
        await arrived(page, id)
        await fits(id)
        usual.push(await sizes())
        await page.keyboard.press('PageDown')
      }
      await page.keyboard.press('Home')
      await page.getByRole('button', { name: 'Class mode' }).click()
      for (const [i, { id }] of SCREENS.entries()) {
        await page.evaluate(id => {
          location.hash = `#walk/${id}`
        }, id)
        await arrived(page, id)
        await fits(id)
        const [words, read] = await sizes()
        expect([id, words! >= usual[i]![0]! * 0.98]).toEqual([id, true])
        expect([id, read! >= usual[i]![1]! * 1.1]).toEqual([id, true])
      }
    },
  )

  test('in class mode a group begins where the last one began, and the answers are at hand', async () => {
    const { page } = await visit(site, '#walk/guess?guess=1.2&layer=9', { reducedMotion: 'reduce' })
    await arrived(page, 'guess')
    expect(await page.getByText('Which layers were planted?').count()).toBe(0)
    await page.getByRole('button', { name: 'Class mode' }).click()
    await page.getByText('Which layers were planted?').waitFor()
    await page.getByRole('button', { name: 'Show the answer' }).click()
    await page.getByRole('button', { name: 'Reset' }).click()
    expect(await page.locator('.layers [aria-pressed=true]').count()).toBe(0)
    expect(await page.locator('.feedback').innerText()).toBe('There are 7.')
    expect(new URL(page.url()).hash).toBe('#walk/guess')
    await page.getByRole('link', { name: 'Answers' }).click()
    await page.getByRole('heading', { name: 'Questions and answers' }).waitFor()
    expect(new URL(page.url()).hash).toBe('#walk/answers')
    await page.getByText('2, 3, 5, 6, 8, 9 and 11.').first().waitFor()
    // Links to steps lead to no part of this document, and those below the window are no skip links.
    const { violations } = await new AxeBuilder({ page }).include('dialog').disableRules(['skip-link']).analyze()
    expect(
      violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(' ')}`),
    ).toEqual([])
    await page.emulateMedia({ media: 'print' })
    expect(await page.getByRole('button', { name: 'Print' }).isVisible()).toBe(false)
    expect(await page.locator('dialog dl').isVisible()).toBe(true)
    await page.emulateMedia({ media: 'screen' })
    await page.getByRole('link', { name: 'Back to the step' }).click()
    await arrived(page, 'guess')
    await page.getByRole('link', { name: /^Back/ }).first().click()
    await arrived(page, 'fit')
  })
})

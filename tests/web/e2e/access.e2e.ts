import { AxeBuilder } from '@axe-core/playwright'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ADVANCED, compress, findBrowser, groupsOf, openSite, runDemo, type Site, visit } from './harness'
import { keysTo, tabTo } from './keyboard'

const browser = findBrowser()
if (!browser)
  console.warn('SKIPPED: the page without a mouse, because no Chromium was found (set CHROMIUM to its path)')

const violations = async (page: Page) =>
  (await new AxeBuilder({ page }).analyze()).violations.map(
    ({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(' ')}`,
  )

describe.skipIf(!browser)('the page for everybody, with a mock engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('mock')
  })
  afterAll(() => site?.close())

  test('by keyboard alone: demo, a pair, a plan, a smaller model, its judgement, its file', async () => {
    const { page, errors } = await visit(site)
    await expect.poll(() => page.getByTestId('device').textContent()).toContain('SwiftShader')
    const unseen = await tabTo(page, 'Run the demo')
    await page.keyboard.press('Enter')
    await page.getByRole('button', { name: 'Compare the layers again' }).waitFor()
    unseen.push(...(await tabTo(page, /^layer 0 with itself/)))
    for (const key of ['ArrowDown', 'ArrowDown', 'ArrowRight', 'Enter']) await page.keyboard.press(key)
    await page.getByRole('heading', { name: /layers 2 and 1/ }).waitFor()
    unseen.push(...(await tabTo(page, 'Layers to remove')))
    await page.keyboard.press('Home')
    for (let more = 0; more < 6; more++) await page.keyboard.press('ArrowRight')
    unseen.push(...(await tabTo(page, 'Compress')))
    await page.keyboard.press('Enter')
    await page.getByTestId('verdict').waitFor()
    expect(await groupsOf(page)).toBe('[0][1 2 3][4 5 6][7 8 9][10 11]')
    unseen.push(...(await tabTo(page, 'Quality')))
    unseen.push(...(await tabTo(page, 'Download a zip')))
    const downloading = page.waitForEvent('download')
    await page.keyboard.press('Enter')
    expect((await downloading).suggestedFilename()).toBe('stories-planted-12L-laminated-5L.zip')
    expect([...new Set(unseen)]).toEqual([])
    expect(errors).toEqual([])
  })

  test('the focus is never lost: it goes with the run, and back to what started it or to the result', async () => {
    const { page } = await visit(site, ADVANCED)
    await expect.poll(() => page.getByTestId('device').textContent()).toContain('SwiftShader')
    const has = () =>
      page.evaluate(
        () =>
          `${document.activeElement!.tagName} ${document.activeElement!.id || (document.activeElement as HTMLElement).getAttribute('aria-label') || document.activeElement!.textContent!.trim()}`,
      )
    /** Whatever has the focus from now on: a run may be short. */
    const been = await page.evaluateHandle(() => {
      const names: string[] = []
      addEventListener('focusin', ({ target }) => names.push((target as HTMLElement).getAttribute('aria-label') ?? ''))
      return names
    })
    const went = async () => (await been.jsonValue()).splice(0).filter(name => name === 'The step that runs').length
    await tabTo(page, 'Run the demo')
    await page.keyboard.press('Enter')
    await expect.poll(went).toBeGreaterThan(0)
    await page.getByRole('button', { name: 'Compare the layers again' }).waitFor()
    // The button is gone; what it asked for is there.
    await expect.poll(has).toBe('H2 see-heading')
    await page.getByTestId('remove').fill('3')
    await tabTo(page, 'Compress')
    const before = await went()
    await page.keyboard.press('Enter')
    await expect.poll(went).toBeGreaterThan(before)
    await page.getByTestId('verdict').waitFor()
    await expect.poll(has).toBe('BUTTON Compress again')
    // A button that goes away when it is pressed.
    await page.getByLabel('Sequences').fill('512')
    await page.getByLabel('Sequences').press('Tab')
    await tabTo(page, 'Back to the defaults')
    await page.keyboard.press('Enter')
    await page.getByRole('button', { name: 'Back to the defaults' }).waitFor({ state: 'detached' })
    await expect.poll(async () => (await has()).slice(0, 60)).not.toMatch(/^BODY/)
  })

  test.each([
    ['with the usual settings', ''],
    ['with all settings', ADVANCED],
  ])('at most ten keys lead from the heatmap to Compress, and back: %s', async (_, path) => {
    const { page } = await visit(site, path, { reducedMotion: 'reduce' })
    await runDemo(page)
    await page.locator('#see').getByRole('grid').first().locator('[tabindex="0"]').focus()
    expect(await keysTo(page, 'Compress')).toBeLessThanOrEqual(10)
    expect(await page.locator(':focus').isEnabled()).toBe(true)
    // What was skipped is still there for who goes step by step.
    await page.locator('#see').getByRole('grid').first().locator('[tabindex="0"]').focus()
    for (const name of ['Skip to Compress', 'Zoom in', /^Mouse, fingers and keys/, 'Similarity', /^How far can I go/])
      await tabTo(page, name)
    await page.keyboard.press('Shift+Tab')
    expect(await page.evaluate(() => document.activeElement!.closest('section')!.id)).not.toBe('plan')
  })

  test('a bar of buttons is one stop of Tab, and arrows go from button to button', async () => {
    const { page } = await visit(site, '', { reducedMotion: 'reduce' })
    await runDemo(page)
    const named = () =>
      page.evaluate(() => document.activeElement!.getAttribute('aria-label') ?? document.activeElement!.textContent)
    await page.getByRole('button', { name: 'Zoom in' }).press('Enter')
    await page.getByRole('button', { name: 'Zoom out' }).isEnabled()
    await page.getByRole('button', { name: 'Zoom in' }).focus()
    await page.keyboard.press('ArrowRight')
    expect(await named()).toBe('Zoom out')
    await page.keyboard.press('End')
    expect(await named()).toBe('Whole matrix')
    await page.keyboard.press('Tab')
    expect(await page.evaluate(() => document.activeElement!.tagName)).toBe('SUMMARY')
    // Tab comes back to where one was, and what is switched off meanwhile is passed over.
    await page.keyboard.press('Shift+Tab')
    expect(await named()).toBe('Whole matrix')
    await page.keyboard.press('Enter')
    await page.getByRole('button', { name: 'Zoom in' }).focus()
    await page.keyboard.press('ArrowRight')
    expect(await named()).toBe('Zoom in')
    await page.getByRole('button', { name: 'layer 0, stays as it is' }).focus()
    await page.keyboard.press('End')
    expect(await named()).toMatch(/^layer 11, /)
    await page.keyboard.press('Space')
    expect(await named()).toBe('layer 11, locked')
  })

  test('a stage is reached from the bar, and its heading is at the top', async () => {
    const { page } = await visit(site, '', { reducedMotion: 'reduce' })
    await runDemo(page)
    await page.getByRole('link', { name: /^Compress/ }).focus()
    await page.keyboard.press('Enter')
    await expect
      .poll(() => page.evaluate(() => Math.round(document.querySelector('#plan')!.getBoundingClientRect().top)))
      .toBeLessThan(200)
    // What is read next is the stage, and not what stands above it.
    await tabTo(page, 'Layers to remove', 12)
  })

  test('axe finds nothing while the page is busy, after a failure, and where methods are compared', async () => {
    const { page } = await visit(site, ADVANCED, { reducedMotion: 'reduce', viewport: { width: 390, height: 844 } })
    await runDemo(page)
    // Longer than axe takes, on a busy machine too.
    await page.getByLabel('Sequences').fill('8192')
    await page.getByLabel('Sequences').press('Tab')
    await page.getByRole('switch', { name: 'Advanced' }).uncheck()
    await page.getByRole('button', { name: 'Compare the layers again' }).click()
    await page.getByText(/^Running layer/).waitFor()
    expect(await violations(page)).toEqual([])
    await page.getByRole('button', { name: 'Cancel' }).click()
    await page.getByText('Cancelled.', { exact: true }).waitFor()
    await page.getByRole('button', { name: 'Back to the defaults' }).click()
    await page.getByLabel('Text', { exact: true }).selectOption('own')
    await page.getByLabel('Text to run through the model').fill('too short')
    await page.getByLabel('Text to run through the model').blur()
    await page.getByRole('button', { name: 'Compare the layers again' }).click()
    await page
      .getByRole('alert')
      .getByText(/gives 1 sequence/)
      .waitFor()
    expect(await violations(page)).toEqual([])
    await page.getByLabel('Text', { exact: true }).selectOption('builtin')
    await page.getByRole('button', { name: 'Compare the layers again' }).click()
    await page.getByText(/^Running layer/).waitFor()
    await page.getByRole('button', { name: 'Compare the layers again' }).waitFor()
    await page.getByRole('button', { name: 'Compare the methods' }).click()
    await page.getByRole('button', { name: 'Compare the methods again' }).waitFor()
    await compress(page, 7)
    expect(await violations(page)).toEqual([])
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0)
  }, 120_000)

  test('with the colours of the system everything that tells something apart is still told apart', async () => {
    const { page } = await visit(site, '', { forcedColors: 'active' })
    await runDemo(page)
    await compress(page, 7)
    const paint = (selector: string, property: 'backgroundColor' | 'borderTopColor') =>
      page
        .locator(selector)
        .first()
        .evaluate((element, property) => getComputedStyle(element)[property], property)
    // Squares keep their colours, which are the data; bands and bars keep an edge or a ground of their own.
    const colours = await page
      .locator('#see canvas')
      .first()
      .evaluate(canvas => {
        const { width, height } = canvas as HTMLCanvasElement
        const pixels = new Uint32Array(
          (canvas as HTMLCanvasElement).getContext('2d')!.getImageData(0, 0, width, height).data.buffer,
        )
        return new Set(pixels).size
      })
    expect(colours).toBeGreaterThan(20)
    const fused = '#plan .band.fused'
    const ground = await paint('body', 'backgroundColor')
    expect(await paint(fused, 'backgroundColor')).not.toBe(ground)
    expect(await paint(fused, 'backgroundColor')).not.toBe(await paint('#plan .band:not(.fused)', 'backgroundColor'))
  })

  test('nothing moves for those who ask for it', async () => {
    const { page } = await visit(site, '', { reducedMotion: 'reduce' })
    await runDemo(page)
    const moving = await page.evaluate(() =>
      [...document.querySelectorAll('*')]
        .filter(element => {
          const { transitionDuration, animationName, scrollBehavior } = getComputedStyle(element)
          return (
            transitionDuration.split(',').some(time => parseFloat(time) > 0) ||
            animationName !== 'none' ||
            scrollBehavior === 'smooth'
          )
        })
        .map(({ tagName, className }) => `${tagName} ${className}`),
    )
    expect(moving).toEqual([])
    expect(await page.evaluate(() => document.getAnimations().length)).toBe(0)
  })
})

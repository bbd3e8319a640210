import { AxeBuilder } from '@axe-core/playwright'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { namesOfArchitectures } from '../../../www/open/architectures'
import { architectures } from '../../../scripts/architectures.mjs'
import { bytesOf, findBrowser, openSite, runDemo, saved, visit, type Site } from './harness'

const browser = findBrowser()
if (!browser)
  console.warn('SKIPPED: kinds of layers in a browser, because no Chromium was found (set CHROMIUM to its path)')

/** A Jamba of 8 layers: Mamba and attention, with experts in every second layer. */
const JAMBA = 'tests/data/architectures/jamba/hf'
const LEGEND = ['Mamba (2)', 'Mamba and experts (4)', 'attention (2)']

async function compareJamba(page: Page): Promise<void> {
  await page.getByTestId('folder').setInputFiles(JAMBA)
  await page.getByText('2 Mamba, 4 Mamba and experts, 2 attention').first().waitFor()
  await page.getByRole('button', { name: 'Compare the layers', exact: true }).click()
  await page.getByRole('button', { name: 'Compare the layers again' }).waitFor()
}

const legendOf = (page: Page, part: string) =>
  page.locator(`${part} [data-kind-legend]`).first().locator('text').allTextContents()
/** The pieces of the bands of a part, by kind and colour, without the samples of the legend. */
const bandsOf = (page: Page, part: string) =>
  page
    .locator(`${part} svg`)
    .filter({ has: page.locator('[data-kinds]') })
    .first()
    .evaluate(svg =>
      [...svg.querySelectorAll('[data-kinds] rect')]
        .filter(rect => !rect.closest('[data-kind-legend]'))
        .map(rect => `${rect.getAttribute('data-kind')} ${getComputedStyle(rect).fill}`),
    )

describe.skipIf(!browser)('kinds of layers, with a mock engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('mock')
  })
  afterAll(() => site?.close())

  test('stand along both axes, in the legend, in the read-out and in what is read aloud', async () => {
    const { page, errors } = await visit(site)
    await compareJamba(page)
    expect(await legendOf(page, '#see')).toEqual(LEGEND)
    const bands = await bandsOf(page, '#see')
    const pattern = ['0', '1', '2', '1', '0', '1', '2', '1']
    expect(bands.map(each => each[0])).toEqual([...pattern, ...pattern])
    expect(new Set(bands).size).toBe(3)
    const square = page
      .locator('#see')
      .getByRole('gridcell', { name: 'layers 1 and 2: similarity 0.550; kinds: Mamba and experts, attention' })
      .first()
    // The picture may still be on its way into view.
    await expect
      .poll(async () => {
        await square.hover({ force: true })
        return page.locator('#see [role=status]').first().innerText()
      })
      .toMatch(/^Layers 1 and 2: similarity 0\.550, .*; kinds: Mamba and experts, attention$/)
    await page.getByText('Layers of different kinds are never averaged').waitFor()
    await page.getByRole('button', { name: 'layer 2, attention, ' }).first().waitFor()
    expect(await legendOf(page, '#plan')).toEqual(LEGEND)
    // A part of the matrix has its part of the bands.
    await page.getByRole('toolbar', { name: 'Zoom and undo' }).getByRole('button', { name: 'Zoom in' }).click()
    await expect.poll(async () => (await bandsOf(page, '#see')).length).toBeLessThan(16)
    expect(errors).toEqual([])
  })

  test('are in the saved drawing, and in a result that is opened without its model', async () => {
    const { page, errors } = await visit(site)
    await compareJamba(page)
    const drawing = (await saved(page, 'the similarities', 'SVG')).bytes.toString()
    for (const words of LEGEND) expect(drawing).toContain(`>${words}</text>`)
    expect(drawing).not.toContain('light-dark')
    const result = await bytesOf(page, () => page.getByRole('button', { name: 'The same as JSON' }).click())
    await page.reload()
    await page.getByText('Open a result without its model').click()
    await page
      .getByTestId('result-file')
      .setInputFiles([{ name: result.name, mimeType: 'application/json', buffer: result.bytes }])
    await page.getByText('View only').waitFor()
    await expect.poll(() => legendOf(page, '#see')).toEqual(LEGEND)
    expect((await bandsOf(page, '#see')).length).toBe(16)
    expect(errors).toEqual([])
  })

  test('are not there where all layers are alike', async () => {
    const { page } = await visit(site)
    await runDemo(page)
    expect(await page.locator('[data-kinds] rect').count()).toBe(0)
    expect(await page.locator('#see').getByRole('gridcell', { name: /kind/ }).count()).toBe(0)
  })

  test('what can be opened is said before anything is', async () => {
    const { page } = await visit(site)
    await page.getByText(`Known are ${namesOfArchitectures(architectures())}.`).waitFor()
  })

  test.each([
    ['light', 1440],
    ['dark', 390],
  ] as const)('accessible and within its width, %s at %d px', async (colorScheme, width) => {
    const { page } = await visit(site, '', { colorScheme, viewport: { width, height: 900 }, reducedMotion: 'reduce' })
    await compareJamba(page)
    for (const part of ['#see', '#plan']) {
      const { violations } = await new AxeBuilder({ page }).include(part).analyze()
      expect(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(' ')}`)).toEqual([])
    }
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0)
  })
})

import { AxeBuilder } from '@axe-core/playwright'
import { existsSync } from 'node:fs'
import type { Locator, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { MapsData } from '../../../www/maps/maps'
import { ADVANCED, ENGINE, findBrowser, openSite, runDemo, saved, type Site, visit } from './harness'

const browser = findBrowser()
if (!browser) console.warn('SKIPPED: the maps in a browser, because no Chromium was found (set CHROMIUM to its path)')

const grid = (page: Page) => page.getByRole('listbox', { name: 'Maps of all layers' })
const chosen = (page: Page) => grid(page).getByRole('option', { selected: true })
const enlarged = (page: Page, layer: number | '' = '') =>
  page.getByRole('slider', { name: `Points of the map of layer ${layer}` })
const slider = (page: Page, name: string) => page.locator('#maps').getByRole('slider', { name, exact: true })
const rings = (page: Page) => page.locator('#maps [role=option] i')

/** Share of a canvas that is painted. */
const painted = (canvas: Locator) =>
  canvas.evaluate((element: HTMLCanvasElement) => {
    const { data } = element.getContext('2d')!.getImageData(0, 0, element.width, element.height)
    return data.filter((value, i) => i % 4 === 3 && value > 0).length / (data.length / 4)
  })

/** Waits until every map is computed in full for the sliders' values. */
async function inFull(page: Page): Promise<void> {
  await expect
    .poll(() => page.getByTestId('maps-state').evaluate(({ dataset }) => `${dataset.behind} ${dataset.sketched}`), {
      timeout: 20_000,
    })
    .toBe('0 0')
}

async function numbers(page: Page): Promise<MapsData> {
  return JSON.parse((await saved(page, 'the maps of all layers', 'JSON')).bytes.toString()) as MapsData
}

describe.skipIf(!browser)('the maps of all layers, with a mock engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('mock')
  })
  afterAll(() => site?.close())

  test('every layer is drawn, and arrow keys enlarge one after the other', async () => {
    const { page, errors } = await visit(site)
    await runDemo(page)
    const tiles = grid(page).locator('canvas')
    await expect.poll(() => tiles.count(), { timeout: 20_000 }).toBe(12)
    for (const tile of await tiles.all()) expect(await painted(tile)).toBeGreaterThan(0.01)
    await grid(page).focus()
    for (const key of ['Home', 'ArrowRight', 'ArrowRight', 'ArrowRight', 'ArrowLeft']) await page.keyboard.press(key)
    expect(await chosen(page).getAttribute('aria-label')).toMatch(/^layer 2, second eigenvalue 0\.\d\d$/)
    await enlarged(page, 2).waitFor()
    await page.keyboard.press('End')
    await enlarged(page, 11).waitFor()
    expect(await grid(page).getAttribute('aria-activedescendant')).toBe(await chosen(page).getAttribute('id'))
    expect(errors).toEqual([])
  })

  test('maps appear one by one while the layers are compared', async () => {
    const { page } = await visit(site, ADVANCED)
    await runDemo(page)
    await page.getByLabel('Sequences').fill('4096')
    await page.getByRole('button', { name: 'Compare the layers again' }).click()
    const count = () => grid(page).getByRole('option').count()
    await expect.poll(async () => [0, 12].includes(await count()), { timeout: 20_000 }).toBe(false)
    expect(await page.getByTestId('maps-state').count()).toBe(0)
    await page.getByRole('button', { name: 'Cancel' }).click()
    await page.getByTestId('maps-state').waitFor()
    expect(await count()).toBe(12)
  })

  test('a point under the pointer is found in every layer and read; a click keeps it', async () => {
    const { page } = await visit(site)
    await runDemo(page)
    const tile = grid(page).getByRole('option').nth(5).locator('canvas')
    await tile.scrollIntoViewIfNeeded()
    const box = (await tile.boundingBox())!
    for (let x = 8; x < box.width && (await rings(page).count()) === 0; x += 4)
      await page.mouse.move(box.x + x, box.y + box.height / 2)
    expect(await rings(page).count()).toBe(12)
    expect(await page.getByTestId('point').innerText()).toMatch(
      /^Text \d+, token 48, here at \(-?[\d.]+, -?[\d.]+\): … \S/,
    )
    const said = await page.getByTestId('point').innerText()
    await page.mouse.move(box.x, box.y - 60)
    expect(await rings(page).count()).toBe(0)
    // What is kept stays while the pointer is elsewhere.
    const map = enlarged(page)
    await map.focus()
    await page.keyboard.press('Home')
    await page.keyboard.press('ArrowRight')
    expect(await map.getAttribute('aria-valuenow')).toBe('2')
    expect(await map.getAttribute('aria-valuetext')).toMatch(/^Text \d+, token 48: … /)
    await page.mouse.move(5, 5)
    expect(await rings(page).count()).toBe(12)
    expect(await page.getByTestId('point').innerText()).not.toBe(said)
    await page.keyboard.press('Escape')
    expect(await rings(page).count()).toBe(0)
  })

  test('a slider changes the maps at once and they can be put back', async () => {
    const { page, errors } = await visit(site)
    await runDemo(page)
    const before = await numbers(page)
    await slider(page, 'Bandwidth').fill('1')
    await page.locator('#maps').getByText('×2.00').waitFor()
    await inFull(page)
    const wide = await numbers(page)
    expect(wide.bandwidth).toBe(2)
    expect(wide.epsilon).toEqual(before.epsilon.map(epsilon => 2 * epsilon))
    expect(wide.embedding).not.toEqual(before.embedding)
    expect(wide.point_list).toEqual(before.point_list)
    await slider(page, 'Diffusion time').fill('3')
    await inFull(page)
    expect((await numbers(page)).time).toBe(3)
    await page.getByRole('button', { name: "Back to the comparison's values" }).click()
    await inFull(page)
    expect((await numbers(page)).embedding).toEqual(before.embedding)
    await page.getByRole('img', { name: /^Eigenvalues of layer 2: number 0, 1\.000; .*number 11/ }).waitFor()
    expect(errors).toEqual([])
  })

  test('a graph that nearly falls apart is warned of in words', async () => {
    const { page } = await visit(site)
    await runDemo(page)
    expect(await page.getByTestId('torn').count()).toBe(0)
    await slider(page, 'Bandwidth').fill('-3')
    await expect
      .poll(() => page.getByTestId('torn').innerText(), { timeout: 20_000 })
      .toMatch(/^All layers are nearly disconnected with these values: /)
    await page.getByText('nearly every text is an island').waitFor()
    expect(await chosen(page).getAttribute('aria-label')).toMatch(/nearly disconnected$/)
  })

  test('sliders wait for a run, and say when the engine no longer holds the maps', async () => {
    const { page } = await visit(site)
    await runDemo(page)
    // The run is short: what is said while it lasts is written down by the page itself.
    const said = await slider(page, 'Bandwidth').evaluateHandle(element => {
      const said: string[] = []
      new MutationObserver(() => {
        if ((element as HTMLInputElement).disabled)
          said.push(document.getElementById('sliders-reason')?.textContent ?? '')
      }).observe(element, { attributes: true })
      return said
    })
    await page.getByRole('button', { name: /^Compress( again)?$/ }).click()
    await page.getByTestId('verdict').waitFor()
    expect((await said.jsonValue())[0]).toMatch(/^Another step is running/)
    expect(await slider(page, 'Bandwidth').isDisabled()).toBe(false)
    await page.getByRole('radio', { name: 'CPU' }).click()
    await expect
      .poll(() => page.getByTestId('device').textContent(), { timeout: 20_000 })
      .toContain('Computes on the CPU')
    await slider(page, 'Bandwidth').fill('1')
    await page.locator('#maps').getByText('Compare the layers again to change them.').waitFor()
    expect(await slider(page, 'Bandwidth').isDisabled()).toBe(true)
  })

  test('a table stands for the enlarged map', async () => {
    const { page } = await visit(site)
    await runDemo(page)
    await page.getByText('Table of the 128 points').click()
    const table = page.getByRole('region', { name: /^Coordinates of the points of layer/ })
    await expect.poll(() => table.getByRole('row').count(), { timeout: 20_000 }).toBe(129)
  })

  test.each([
    [1440, 'light'],
    [390, 'dark'],
  ] as const)('axe finds nothing at %d px, %s, and nothing scrolls sideways', async (width, colorScheme) => {
    const { page } = await visit(site, '', { viewport: { width, height: 900 }, colorScheme })
    await runDemo(page)
    await slider(page, 'Bandwidth').fill('-3')
    await page.getByTestId('torn').waitFor()
    await enlarged(page).focus()
    await page.keyboard.press('Home')
    await page.locator('#maps summary').click()
    const { violations } = await new AxeBuilder({ page }).include('#maps').analyze()
    expect(violations.map(({ id, nodes }) => [id, nodes.map(node => node.html)])).toEqual([])
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(width)
  })
})

describe.skipIf(!browser || !existsSync(ENGINE))('the maps of all layers, with the compiled engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('real')
  })
  afterAll(() => site?.close())

  test('other values give what the engine computes with them, for points with tokens', async () => {
    const { page, errors } = await visit(site, '?device=cpu')
    await runDemo(page, 60_000)
    const before = await numbers(page)
    expect(before.eigenvalues[1]!.length).toBeGreaterThanOrEqual(5)
    for (const value of ['-2', '-1.5', '-1']) await slider(page, 'Bandwidth').fill(value)
    await slider(page, 'Density exponent').fill('1')
    await inFull(page)
    const narrow = await numbers(page)
    expect([narrow.bandwidth, narrow.density, narrow.time]).toEqual([0.5, 1, 1])
    expect(narrow.epsilon).toEqual(before.epsilon.map(epsilon => 0.5 * epsilon))
    for (const [layer, lambda] of narrow.eigenvalues.entries()) {
      expect(lambda[1]).toBeGreaterThan(before.eigenvalues[layer]![1]!)
      expect(Math.abs(lambda[0]! - 1)).toBeLessThan(1e-9)
    }
    // Turned onto the picture of the run: what was left stays left.
    for (const [layer, rows] of narrow.embedding.entries()) {
      const along = rows.reduce(
        (sum, row, i) => sum + row[0]! * before.embedding[layer]![i]![0]! + row[1]! * before.embedding[layer]![i]![1]!,
        0,
      )
      expect(along, `layer ${layer}`).toBeGreaterThan(0)
    }
    expect(narrow.point_list.every(point => point.token !== '' && point.token !== undefined)).toBe(true)
    await page.getByLabel('Colour by').selectOption('token')
    expect(await page.locator('#maps').getByText('all others').count()).toBe(1)
    expect(errors).toEqual([])
  })
})

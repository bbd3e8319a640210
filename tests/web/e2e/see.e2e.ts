import { readFileSync } from 'node:fs'
import AxeBuilder from '@axe-core/playwright'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  ADVANCED,
  choosePublished,
  compress,
  findBrowser,
  groupsOf,
  openSite,
  runDemo,
  type Site,
  visit,
} from './harness'

const readout = (page: Page) => page.locator('#see [role=status]').first()
const strip = (page: Page) => groupsOf(page)
const grid = (page: Page) =>
  page.getByRole('grid', { name: /^(Similarity|Difference in similarity) of the \d+ layers/ }).first()

/** The middle of a cell of a picture that shows `shown` of them a side. */
async function middle(page: Page, row: number, col: number, shown = 12): Promise<{ x: number; y: number }> {
  const box = await page.locator('#see canvas').first().boundingBox()
  return { x: box!.x + ((col + 0.5) * box!.width) / shown, y: box!.y + ((row + 0.5) * box!.height) / shown }
}

/** The colour of the canvas there. */
function colourAt(page: Page, row: number, col: number, shown = 12): Promise<number[]> {
  return page.evaluate(
    ([row, col, shown]) => {
      const canvas = document.querySelector<HTMLCanvasElement>('#see canvas')!
      const at = (i: number, side: number) => Math.floor(((i + 0.5) * side) / shown!)
      return [...canvas.getContext('2d')!.getImageData(at(col!, canvas.width), at(row!, canvas.height), 1, 1).data]
    },
    [row, col, shown],
  )
}

async function saved(page: Page, button: string): Promise<string> {
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('button', { name: button, exact: true }).click(),
  ])
  return readFileSync(await download.path(), 'utf8')
}

describe.skipIf(!findBrowser())('similarities and plans', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('mock')
  })
  afterAll(() => site?.close())

  test.each([
    [1440, 900],
    [1280, 720],
  ])('at %i x %i the value of every square is in sight', async (width, height) => {
    const { page } = await visit(site, ADVANCED, { viewport: { width, height } })
    await runDemo(page)
    for (const [row, col] of [
      [0, 11],
      [6, 2],
      [11, 8],
    ] as const) {
      // In the middle of what is left of the window, as somebody would have it who looks at that square; the hand follows
      // the square while the page still moves by itself after the run.
      await expect
        .poll(async () => {
          const before = await middle(page, row, col)
          await page.evaluate(by => scrollBy({ top: by, behavior: 'instant' }), before.y - 0.7 * height)
          const { x, y } = await middle(page, row, col)
          await page.mouse.move(x, y)
          return readout(page).innerText()
        })
        .toMatch(new RegExp(`^Layers ${Math.min(row, col)} and ${Math.max(row, col)}: similarity 0`))
      // On a busy machine the page may still be moving.
      await expect
        .poll(async () => {
          const box = (await readout(page).boundingBox())!
          const bar = (await page.getByRole('region', { name: 'Where you are' }).boundingBox())!
          const seen = await page.evaluate(({ x, y }) => document.elementFromPoint(x, y)?.textContent ?? '', {
            x: box.x + 8,
            y: box.y + box.height / 2,
          })
          return { below: box.y >= bar.y + bar.height, inside: box.y + box.height <= height, seen: seen.slice(0, 6) }
        })
        .toEqual({ below: true, inside: true, seen: 'Layers' })
    }
  })

  test('by mouse: read, stay, zoom to a block, back', async () => {
    const { page, errors } = await visit(site, ADVANCED)
    await runDemo(page)
    await grid(page).scrollIntoViewIfNeeded()
    expect(await colourAt(page, 1, 1)).toEqual([253, 231, 37, 255])
    let at = await middle(page, 4, 6)
    await page.mouse.move(at.x, at.y)
    await expect.poll(() => readout(page).innerText()).toMatch(/^Layers 4 and 6: similarity 0.8/)
    await page.mouse.click(at.x, at.y)
    await page.mouse.move(0, 400)
    expect(await readout(page).innerText()).toMatch(/^Layers 4 and 6/)
    await page.getByText(/not neighbours: they become one only with the layer between them/).waitFor()
    at = await middle(page, 3, 3)
    const to = await middle(page, 6, 6)
    await page.mouse.move(at.x, at.y)
    await page.mouse.down()
    await page.mouse.move(to.x, to.y, { steps: 4 })
    await page.mouse.up()
    await page.mouse.move(0, 400)
    await expect
      .poll(() => readout(page).innerText())
      .toMatch(/^Layers 3 to 6 with each other: similarity 0.\d+ to 0.\d+, 0.\d+ on average$/)
    expect(await page.getByRole('gridcell').count()).toBe(16)
    await page.getByRole('button', { name: 'Whole matrix' }).click()
    expect(await page.getByRole('gridcell').count()).toBe(144)
    expect(errors).toEqual([])
  })

  test('zooming enlarges, and moves nothing else', async () => {
    const { page } = await visit(site, ADVANCED, { reducedMotion: 'reduce' })
    await runDemo(page)
    const tools = page.getByRole('toolbar', { name: 'Zoom and undo' })
    const square = async () => (await grid(page).getByRole('gridcell').first().boundingBox())!.width
    const below = () => tools.evaluate(element => Math.round(element.getBoundingClientRect().top + scrollY))
    // What the next run would take is said a moment after this one.
    let last = Number.NaN
    await expect
      .poll(
        async () => {
          const before = last
          last = await below()
          return last === before
        },
        { interval: 500 },
      )
      .toBe(true)
    const [place, sides] = [last, [await square()]]
    for (let press = 0; press < 4; press++) {
      await tools.getByRole('button', { name: 'Zoom in' }).click()
      sides.push(await square())
      expect(await below()).toBe(place)
    }
    expect(sides).toEqual(sides.toSorted((a, b) => a - b))
    expect(sides.at(-1)! / sides[0]!).toBeGreaterThan(3.5)
    // A closer part is as wide as the whole was, but for less than a pixel a cell.
    expect(Math.abs((await grid(page).boundingBox())!.width - 44 - 12 * sides[0]!)).toBeLessThanOrEqual(12)
  })

  test('by keyboard: a block, zoom, merge, undo, redo', async () => {
    const { page, errors } = await visit(site, ADVANCED)
    await runDemo(page)
    const name = () => page.evaluate(() => document.activeElement?.getAttribute('aria-label'))
    await grid(page).locator('[tabindex="0"]').focus()
    for (const key of ['ArrowDown', 'ArrowRight', 'Shift+ArrowDown', 'Shift+ArrowRight', 'Shift+ArrowRight', 'Enter'])
      await page.keyboard.press(key)
    await expect.poll(() => page.getByRole('gridcell').count()).toBe(6)
    await page.keyboard.press('End')
    expect(await name()).toMatch(/^layers 2 and 11: similarity/)
    await page.keyboard.press('0')
    await expect.poll(() => page.getByRole('gridcell').count()).toBe(144)
    expect(await strip(page)).toBe('[0][1 2 3][4 5 6][7 8 9][10 11]')
    for (const key of ['Control+Home', 'ArrowRight', 'm']) await page.keyboard.press(key)
    expect(await strip(page)).toBe('[0 1 2 3][4 5 6][7 8 9][10 11]')
    await page.keyboard.press('Control+z')
    expect(await strip(page)).toBe('[0][1 2 3][4 5 6][7 8 9][10 11]')
    await page.keyboard.press('Control+Shift+Z')
    expect(await strip(page)).toBe('[0 1 2 3][4 5 6][7 8 9][10 11]')
    expect(errors).toEqual([])
  })

  test('another metric at once, its difference, side by side, another run, scales', async () => {
    const { page, errors } = await visit(site, ADVANCED)
    await runDemo(page)
    await compress(page, 2)
    await page.getByLabel('Similarity by').selectOption('cosine')
    await expect.poll(() => readout(page).innerText()).toBe('Layers 2 and 3: similarity 0.986')
    expect(await page.getByLabel('Similarity by').isEnabled()).toBe(true)
    expect(await page.getByTestId('verdict').count()).toBe(1)
    await page.getByLabel('Compare with').selectOption('metric mi')
    await page
      .getByRole('grid', { name: 'Difference in similarity of the 12 layers, by cosine and by diffusion maps' })
      .waitFor()
    await page
      .getByRole('img', { name: /^Colours: difference in similarity from .* over 0 \(white, marked\)/ })
      .waitFor()
    expect((await colourAt(page, 5, 5)).slice(0, 3).every(channel => channel > 225)).toBe(true)
    await expect
      .poll(() => readout(page).innerText())
      .toMatch(/more alike by cosine \(0.\d+\) than by diffusion maps \(0.\d+\)$/)
    const linear = await colourAt(page, 1, 2)
    await page.locator('#see').getByLabel('Scale').selectOption('rank')
    await expect.poll(() => colourAt(page, 1, 2)).not.toEqual(linear)
    await page.getByLabel('side by side').check()
    await expect.poll(() => page.locator('#see').getByRole('grid').count()).toBe(2)
    // A run of a smaller model, from a file: no difference square by square.
    const small = {
      metric: 'mi',
      model: { name: 'small' },
      similarity: [
        [1, 0.5, 0.2],
        [0.5, 1, 0.6],
        [0.2, 0.6, 1],
      ],
    }
    await page
      .getByTestId('similarity-file')
      .setInputFiles({ name: 'small.json', mimeType: 'application/json', buffer: Buffer.from(JSON.stringify(small)) })
    await page.getByText(/12 and 3 layers cannot be taken from each other/).waitFor()
    expect(await page.getByLabel('difference').isDisabled()).toBe(true)
    await page
      .getByTestId('similarity-file')
      .setInputFiles({ name: 'odd.json', mimeType: 'application/json', buffer: Buffer.from('{}') })
    await page
      .getByRole('alert')
      .getByText(/odd.json: there is no “similarity” in it/)
      .waitFor()
    expect(errors).toEqual([])
  })

  test('a plan by hand with a locked layer, compressed, saved as a recipe and opened again', async () => {
    const { page, errors } = await visit(site, ADVANCED)
    await runDemo(page)
    await choosePublished(page)
    await page.getByRole('button', { name: /^layer 2, becomes one with/ }).click()
    expect(await strip(page)).toBe('[0][1][2][3 4 5 6 7 8 9][10 11]')
    await page.getByLabel('By hand, starting from what is shown').check()
    await page.getByRole('button', { name: 'Start from nothing' }).click()
    expect(await page.getByRole('button', { name: /^Compress/ }).isDisabled()).toBe(true)
    await grid(page).scrollIntoViewIfNeeded()
    const at = await middle(page, 2, 1)
    await page.mouse.click(at.x, at.y)
    expect(await page.getByRole('button', { name: 'Merge layers 1 and 2' }).isDisabled()).toBe(true)
    const other = await middle(page, 4, 6)
    await page.mouse.click(other.x, other.y)
    await page.getByRole('button', { name: 'Merge layers 4 to 6 into one' }).click()
    await page.getByRole('button', { name: 'Take layers 4 to 6 apart' }).waitFor()
    expect(await page.getByRole('button', { name: 'Save the recipe' }).isDisabled()).toBe(true)
    await page.getByRole('button', { name: 'Compress' }).click()
    await page.getByTestId('verdict').waitFor()
    expect(await strip(page)).toBe('[0][1][2][3][4 5 6][7][8][9][10][11]')
    const recipe = await saved(page, 'Save the recipe')
    expect(JSON.parse(recipe)).toMatchObject({
      model: 'stories-planted-12L',
      options: { selection: 'hand', absorb: [5, 6], locked: [2] },
      plan: { groups: [[0], [1], [2], [3], [4, 5, 6], [7], [8], [9], [10], [11]] },
    })
    expect(await saved(page, 'Save for mergekit')).toContain('merge_method: linear')
    await page.getByLabel('By the method below').check()
    await page
      .getByTestId('recipe-file')
      .setInputFiles({ name: 'recipe.json', mimeType: 'application/json', buffer: Buffer.from(recipe) })
    await page.getByText('A repeated plan: 2 merges.').waitFor()
    await page.getByRole('button', { name: 'Compress again' }).click()
    await expect.poll(() => page.getByRole('button', { name: 'Save the recipe' }).isEnabled()).toBe(true)
    expect(JSON.parse(await saved(page, 'Save the recipe')).plan.weights).toEqual(JSON.parse(recipe).plan.weights)
    expect(errors).toEqual([])
  })

  test('bands fuse as more layers go, and the curve has its elbow', async () => {
    const { page } = await visit(site, ADVANCED)
    await runDemo(page)
    const bands = page.getByRole('toolbar', { name: 'Layers, to lock or unlock' })
    expect(await bands.getAttribute('data-groups')).toBe('[0][1 2 3][4 5 6][7 8 9][10 11]')
    await page.getByTestId('remove').fill('8')
    expect(await bands.getAttribute('data-groups')).toBe('[0][1 2 3][4 5 6 7][8 9 10 11]')
    await choosePublished(page)
    expect(await bands.getAttribute('data-groups')).toBe('[0][1 2 3 4 5 6][7 8 9][10 11]')
    await page.getByText('elbow at 7').waitFor()
    await page.getByRole('button', { name: 'Stop there' }).click()
    expect(await page.getByTestId('remove').inputValue()).toBe('7')
    await page.getByLabel('Locked layers').fill('1, 99')
    await page.getByLabel('Locked layers').press('Tab')
    await page.getByText('Write layers from 0 to 11 with commas between them.').waitFor()
    await page.getByLabel('Locked layers').fill('5')
    await page.getByLabel('Locked layers').press('Tab')
    expect(await bands.getAttribute('data-groups')).not.toMatch(/\b5 |\b 5/)
  })

  test('two fingers zoom, and one moves what is shown', async () => {
    const { page } = await visit(site, ADVANCED, { hasTouch: true, viewport: { width: 390, height: 844 } })
    await runDemo(page)
    await grid(page).scrollIntoViewIfNeeded()
    await page.evaluate(() => {
      const svg = document.querySelector('#see [role=grid]')!
      const box = svg.getBoundingClientRect()
      const send = (type: string, id: number, x: number, y: number) =>
        svg.dispatchEvent(
          new PointerEvent(type, {
            pointerId: id,
            pointerType: 'touch',
            clientX: box.left + x,
            clientY: box.top + y,
            bubbles: true,
            button: 0,
          }),
        )
      send('pointerdown', 1, 150, 150)
      send('pointerdown', 2, 190, 150)
      send('pointermove', 2, 230, 150)
      send('pointerup', 1, 150, 150)
      send('pointerup', 2, 230, 150)
    })
    await expect.poll(() => page.getByRole('gridcell').count()).toBe(36)
    expect(await page.getByRole('button', { name: 'Draw a block' }).count()).toBe(1)
  })

  test.each(['light', 'dark'] as const)(
    'axe finds nothing in a comparison and a plan by hand, %s',
    async colorScheme => {
      const { page } = await visit(site, ADVANCED, { colorScheme, reducedMotion: 'reduce' })
      await runDemo(page)
      await page.getByLabel('Compare with').selectOption('metric cka')
      await page.getByRole('grid', { name: /^Difference/ }).waitFor()
      await page.getByLabel('By hand, starting from what is shown').check()
      await page.getByLabel('Locked layers').fill('3')
      await page.getByLabel('Locked layers').press('Tab')
      const violations = (
        await new AxeBuilder({ page })
          .include('#see')
          .include('#plan')
          .withTags(['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice'])
          .analyze()
      ).violations
      expect(violations.map(v => `${v.id}: ${v.nodes.map(node => node.target).join(' ')}`)).toEqual([])
    },
    120_000,
  )
})

import { AxeBuilder } from '@axe-core/playwright'
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readMatrixCsv } from '../../../www/figures/csv'
import { readNpy } from '../../../www/figures/npy'
import { stored } from '../stored'
import {
  bytesOf,
  choosePublished,
  compress,
  findBrowser,
  groupsOf,
  openSite,
  runDemo,
  saved,
  type Site,
  visit,
} from './harness'

const browser = findBrowser()
if (!browser) console.warn('SKIPPED: sharing in a browser, because no Chromium was found (set CHROMIUM to its path)')

const axe = async (page: Page) =>
  (await new AxeBuilder({ page }).analyze()).violations.map(v => `${v.id}: ${v.nodes.map(n => n.target).join(' ')}`)
const excess = (page: Page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth)

describe.skipIf(!browser)('sharing, with a mock engine', () => {
  let site: Site
  let link: string
  let report: string
  let page: Page
  let errors: string[]
  const folder = mkdtempSync(join(tmpdir(), 'laminate-share-'))

  /** One finished run, from which everything is saved. */
  beforeAll(async () => {
    site = await openSite('mock')
    ;({ page, errors } = await visit(site, '', { permissions: ['clipboard-read', 'clipboard-write'] }))
    await runDemo(page)
    await choosePublished(page)
    await compress(page, 7)
    await page.getByRole('button', { name: 'None' }).click()
    await page.getByRole('checkbox', { name: 'MKA', exact: true }).check()
    await page.getByLabel('Numbers of layers').fill('2, 4')
    await page.getByRole('button', { name: 'Compare the methods' }).click()
    await page.getByText('2 models compared').waitFor({ state: 'attached' })
    link = await page.getByLabel('Link to this result').inputValue()
    const { bytes } = await bytesOf(page, () => page.getByRole('button', { name: 'Save the report' }).click())
    report = join(folder, 'report.html')
    writeFileSync(report, bytes)
  })
  afterAll(() => site?.close())

  test('the similarities in every format, each with the numbers of the JSON', async () => {
    const json = await saved(page, 'the similarities', 'JSON')
    const { similarity, options, point_list } = JSON.parse(json.bytes.toString()) as typeof stored
    expect([json.name, similarity, point_list]).toEqual(['similarity.json', stored.similarity, stored.point_list])
    expect(options).not.toHaveProperty('text')
    expect(readMatrixCsv((await saved(page, 'the similarities', 'CSV')).bytes.toString(), 'x')).toEqual(similarity)
    const npy = readNpy(new Uint8Array((await saved(page, 'the similarities', 'NPY')).bytes), 'x')
    expect([npy.shape, [...npy.data]]).toEqual([[12, 12], similarity.flat()])
    const svg = (await saved(page, 'the similarities', 'SVG')).bytes.toString()
    expect(svg).not.toMatch(/var\(|light-dark|currentColor|color\(srgb|tabindex|class=/)
    // Squares of one colour in a row are one rectangle; all together they cover the matrix.
    const cells = [
      ...svg.matchAll(
        /<rect [^>]*width="([\d.]+)" height="([\d.]+)" fill="(?:#|rgb)[^"]+" shape-rendering="crispEdges"/g,
      ),
    ]
    expect(cells.reduce((sum, [, width, height]) => sum + Number(width) / Number(height), 0)).toBeCloseTo(144, 3)
    expect(svg).not.toContain('<image')
    expect(svg.replace(/<[^>]+>/g, ' ').replace(/\s+/g, ' ')).toContain('tokens scored. Laminate.')
    const png = await saved(page, 'the similarities', 'PNG')
    const [, width, height] = /width="(\d+)" height="(\d+)"/.exec(svg)!.map(Number)
    expect([png.bytes.subarray(1, 4).toString(), png.bytes.readUInt32BE(16), png.bytes.readUInt32BE(20)]).toEqual([
      'PNG',
      2 * width!,
      2 * height!,
    ])
    expect(await page.evaluate(coloursIn, png.bytes.toString('base64'))).toBeGreaterThan(20)
    await page.getByText('Saved similarity.png').waitFor({ state: 'attached' })
  })

  test('every other figure', async () => {
    const pair = await page.evaluate(
      () =>
        [...document.querySelectorAll('.maps h3')].map(heading =>
          /layers (\d+) and (\d+)/
            .exec(heading.textContent ?? '')!
            .slice(1)
            .map(Number),
        )[0]!,
    )
    const maps = readNpy(new Uint8Array((await saved(page, 'the two maps', 'NPY')).bytes), 'x')
    expect([maps.shape, [...maps.data]]).toEqual([[2, 128, 2], pair.flatMap(layer => stored.embedding[layer]!.flat())])
    for (const what of [
      'the two maps',
      'the similarities of neighbours',
      'the merges',
      'the curves',
      'the comparison',
    ]) {
      const svg = (await saved(page, what, 'SVG')).bytes.toString()
      expect(svg, what).toMatch(/^<svg [^>]*xmlns="http:\/\/www.w3.org\/2000\/svg"/)
      expect(svg, what).not.toMatch(/var\(|light-dark|currentColor|data-passing/)
      expect((await saved(page, what, 'PNG')).bytes.subarray(1, 4).toString(), what).toBe('PNG')
      expect((await saved(page, what, 'CSV')).bytes.toString().split('\n').length, what).toBeGreaterThan(3)
      expect((await saved(page, what, 'NPY')).bytes.subarray(1, 6).toString(), what).toBe('NUMPY')
      expect(JSON.parse((await saved(page, what, 'JSON')).bytes.toString()), what).toBeTruthy()
    }
    const curve = JSON.parse((await saved(page, 'the curves', 'JSON')).bytes.toString())
    const csv = (await saved(page, 'the curves', 'CSV')).bytes.toString().trim().split('\n').at(-1)!.split(',')
    expect(csv.slice(0, 4).map(Number)).toEqual([7, 5, curve.bytes.after, curve.merged.perplexity])
  })

  test('a menu by keyboard, and citations that are copied', async () => {
    const button = page.getByRole('button', { name: 'Save the merges', exact: true })
    await button.focus()
    await page.keyboard.press('Enter')
    await page.keyboard.press('Tab')
    await page.keyboard.press('ArrowDown')
    const { name } = await bytesOf(page, () => page.keyboard.press('Enter'))
    expect(name).toBe('merges.svg')
    expect(await page.evaluate(() => document.activeElement?.textContent)).toContain('Save the merges')
    await page.getByRole('button', { name: 'Copy BibTeX' }).last().click()
    await page.getByRole('status').getByText('Copied BibTeX for the method, MKA').waitFor()
    expect(await page.evaluate(() => navigator.clipboard.readText())).toMatch(/^@inproceedings\{[^]*2406\.16330/)
    await page.getByRole('button', { name: 'Copy the link' }).click()
    await page.getByRole('status').getByText('Copied the link').waitFor()
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(link)
    expect(errors).toEqual([])
  })

  test('the link in a fresh profile, with neither engine nor network', async () => {
    const { page, errors, requests } = await visit(site, link.slice(site.url.length))
    await page.getByText('View only').waitFor()
    await page.getByRole('grid', { name: 'Similarity of the 12 layers' }).waitFor()
    expect(requests.filter(url => /worker|\.wasm/.test(url) || !url.startsWith(site.url))).toEqual([])
    await page.context().setOffline(true)
    expect(await page.getByRole('gridcell', { name: 'layers 1 and 2: similarity 0.929' }).count()).toBe(2)
    expect(await groupsOf(page)).toBe('[0][1 2 3][4 5 6][7 8 9][10 11]')
    expect(await page.getByTestId('verdict').innerText()).toMatch(
      /Perplexity 7.06 \(original 6.75; dropping the same layers [\d.]+\)/,
    )
    expect(await page.getByText(/A link carries the similarities to within 0\.000008/).count()).toBe(1)
    const npy = readNpy(new Uint8Array((await saved(page, 'the similarities', 'NPY')).bytes), 'x')
    stored.similarity.flat().forEach((value, i) => expect(Math.abs(npy.data[i]! - value)).toBeLessThan(7.7e-6))
    const recipe = JSON.parse(
      (await bytesOf(page, () => page.getByRole('button', { name: 'The recipe alone' }).click())).bytes.toString(),
    )
    expect([recipe.model, recipe.plan.groups, recipe.options.remove]).toEqual([
      'stories-planted-12L',
      [[0], [1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11]],
      7,
    ])
    // What was quantised once is not moved by going through a link again.
    expect((await page.getByLabel('Link to this result').inputValue()).length).toBeLessThanOrEqual(link.length + 8)
    expect(errors).toEqual([])
  })

  test('leaving the view: closing it starts the engine; a model takes its place', async () => {
    const { page, errors } = await visit(site, link.slice(site.url.length))
    await page.getByRole('button', { name: 'Close it' }).click()
    await page.getByRole('heading', { name: 'Layers of a language model repeat each other.' }).waitFor()
    expect(page.url()).toBe(site.url)
    await expect.poll(() => page.getByTestId('device').textContent()).toContain('SwiftShader')
    await page.evaluate(address => {
      location.href = address
    }, link)
    await page.getByText('View only').waitFor()
    await page.getByTestId('folder').setInputFiles('tests/data/models/stories260K')
    await page.getByRole('heading', { level: 1, name: 'stories260K' }).waitFor()
    expect([await page.getByText('View only').count(), page.url()]).toEqual([0, site.url])
    await page.getByText('Open a result without its model').click()
    await page.getByTestId('result-file').setInputFiles(report)
    await page.getByRole('button', { name: 'Back to stories260K' }).click()
    await page.getByRole('button', { name: 'Compare the layers' }).waitFor()
    expect(errors).toEqual([])
  })

  test('the report as a file in a fresh profile, with the network off', async () => {
    const context = await site.browser.newContext({ offline: true, viewport: { width: 1024, height: 800 } })
    const page = await context.newPage()
    const errors: string[] = []
    const requests: string[] = []
    page.on('pageerror', error => errors.push(error.message))
    page.on('console', message => {
      if (message.type() === 'error') errors.push(message.text())
    })
    page.on('request', request => requests.push(request.url()))
    await page.goto(pathToFileURL(report).href)
    await page.getByRole('heading', { level: 1, name: 'stories-planted-12L' }).waitFor()
    const box = (await page.locator('#heatmap .cells').boundingBox())!
    await page.mouse.move(box.x + (2.5 / 12) * box.width, box.y + (1.5 / 12) * box.height)
    expect(await page.locator('#heatmap-read').innerText()).toBe('Layers 1 and 2: similarity 0.929, 3.10 nats shared')
    await page.locator('#heatmap').focus()
    await page.keyboard.press('ArrowDown')
    await page.keyboard.press('ArrowDown')
    expect(await page.locator('#heatmap-read').innerText()).toContain('Layers 2 and 3: similarity')
    await page.locator('svg[data-map=left] circle').last().hover()
    expect(await page.locator('#map-read').innerText()).toContain(
      stored.point_list.at(-1)!.text.replaceAll(/\s+/g, ' ').trim(),
    )
    const layers = page.getByRole('region', { name: 'Steps' }).locator('tbody tr th')
    await page.getByRole('region', { name: 'Steps' }).getByRole('button', { name: 'similarity' }).click()
    expect(await layers.allInnerTexts()).toEqual(['7', '6', '4', '3', '2', '5', '1'])
    expect(await axe(page)).toEqual([])
    await page.setViewportSize({ width: 390, height: 800 })
    expect(await excess(page)).toBeLessThanOrEqual(0)
    expect(
      await page.evaluate(() =>
        fetch('http://127.0.0.1:1/').then(
          () => 'sent',
          () => 'refused',
        ),
      ),
    ).toBe('refused')
    expect(requests.filter(url => !url.startsWith('file:'))).toEqual([])
    expect(errors.filter(error => !/Content Security Policy|127\.0\.0\.1:1/.test(error))).toEqual([])
    await context.close()
  })

  test('what was saved is opened again, whatever it is called; a drop is recognised too', async () => {
    const { page, errors } = await visit(site)
    await page.getByText('Open a result without its model').click()
    const open = (name: string, buffer: Buffer) =>
      page.getByTestId('result-file').setInputFiles([{ name, mimeType: 'application/octet-stream', buffer }])
    await open('a.txt', readFileSync(report))
    await page.getByText('opened from a.txt').waitFor()
    expect(await page.getByRole('slider', { name: /^Diffusion map of layer/ }).count()).toBe(2)
    await page.getByTestId('comparison').getByText('MKA', { exact: true }).first().waitFor()
    const drop = (name: string, bytes: Buffer) =>
      page.evaluate(
        ([name, base64]) => {
          const transfer = new DataTransfer()
          transfer.items.add(new File([Uint8Array.from(atob(base64!), letter => letter.charCodeAt(0))], name!))
          window.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, cancelable: true }))
        },
        [name, bytes.toString('base64')] as const,
      )
    await drop('b', Buffer.from('layer,0,1,2\n0,1,0.5,0.25\n1,0.5,1,0.125\n2,0.25,0.125,1\n'))
    await page.getByText('opened from b').waitFor()
    await page.getByRole('gridcell', { name: 'layers 1 and 2: similarity 0.125' }).first().waitFor()
    expect(await page.getByText('It holds the matrix alone').count()).toBe(1)
    await drop('c', Buffer.from(link))
    await page.getByText('opened from a link').or(page.getByText('opened from c')).waitFor()
    expect(errors).toEqual([])
  })

  test.each([
    ['damaged', () => link.slice(0, -40), /^The link is damaged: a part of it is missing or was changed/],
    [
      'of a newer version',
      () => link.replace('#result=1.', '#result=7.'),
      /^The link was made by a newer Laminate \(its form is 7/,
    ],
    [
      'too long',
      () => `${link.split('#')[0]}#result=1.${'A'.repeat(210_000)}`,
      /^The link is 210,\d{3} characters long/,
    ],
  ])('a link that is %s: one sentence, and the page is as ever', async (_, address, sentence) => {
    const { page, errors } = await visit(site, address().slice(site.url.length))
    await page.getByRole('alert').getByText(sentence).waitFor()
    expect(page.url()).toBe(site.url)
    await runDemo(page)
    expect(errors).toEqual([])
  })

  test('names in files are text: nothing of them runs, in the page or in a report', async () => {
    const { page, errors } = await visit(site)
    const evil = '<img src=x onerror="document.title=1"></script><script>document.title=2</script>'
    const bad = {
      ...stored,
      model: { ...stored.model, name: evil, files: [evil] },
      text: { ...stored.text, name: evil },
      point_list: stored.point_list.map(point => ({ ...point, text: evil })),
      warnings: [evil],
    }
    await page.getByText('Open a result without its model').click()
    await page
      .getByTestId('result-file')
      .setInputFiles([
        { name: `${evil.slice(0, 20)}.json`, mimeType: 'application/json', buffer: Buffer.from(JSON.stringify(bad)) },
      ])
    await page.getByRole('heading', { level: 1, name: evil }).waitFor()
    expect([await page.locator('img').count(), await page.title()]).toEqual([0, 'Laminate'])
    const svg = (await saved(page, 'the similarities', 'SVG')).bytes.toString()
    expect(svg).not.toContain('<img')
    expect(errors).toEqual([])
  })

  describe.each(['light', 'dark'] as const)('%s', colorScheme => {
    test('axe finds nothing, and nothing scrolls sideways', async () => {
      const { page } = await visit(site, link.slice(site.url.length), { colorScheme, reducedMotion: 'reduce' })
      await page.getByText('View only').waitFor()
      await page.getByRole('button', { name: 'Save the similarities', exact: true }).click()
      expect(await axe(page)).toEqual([])
      await page.keyboard.press('Escape')
      for (const width of [1440, 1024, 390]) {
        await page.setViewportSize({ width, height: 844 })
        // Pictures are drawn again in the next frame.
        await expect.poll(() => excess(page)).toBeLessThanOrEqual(0)
      }
    }, 180_000)
  })

  test('axe finds nothing in the panel that shares', async () => {
    expect((await new AxeBuilder({ page }).include('#share').analyze()).violations.map(v => v.id)).toEqual([])
    await page.setViewportSize({ width: 390, height: 844 })
    expect(await excess(page)).toBeLessThanOrEqual(0)
  })
})

/** How many colours a PNG has, counted in the page. */
async function coloursIn(base64: string): Promise<number> {
  const image = await createImageBitmap(
    new Blob([Uint8Array.from(atob(base64), letter => letter.charCodeAt(0))], { type: 'image/png' }),
  )
  const context = new OffscreenCanvas(image.width, image.height).getContext('2d')!
  context.drawImage(image, 0, 0)
  return new Set(new Uint32Array(context.getImageData(0, 0, image.width, image.height).data.buffer)).size
}

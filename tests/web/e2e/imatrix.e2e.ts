/**
 * Importances from a file, and those of a result. `tests/data/demo.imatrix.gguf` is made by
 * `laminate imatrix demo --samples 8 --tokens 16 --out tests/data/demo.imatrix.gguf`.
 */
import { existsSync, readFileSync } from 'node:fs'
import { AxeBuilder } from '@axe-core/playwright'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { imatrixBytes } from '../mock/imatrix'
import { readGguf } from './gguf'
import { ADVANCED, bytesOf, compress, ENGINE, findBrowser, openSite, runDemo, saved, type Site, visit } from './harness'

const browser = findBrowser()
if (!browser)
  console.warn('SKIPPED: importances in a browser, because no Chromium was found (set CHROMIUM to its path)')
const LONG = 300_000
const OWN = 'tests/data/demo.imatrix.gguf'

const take = (page: Page) => page.locator('#take')
const inForce = (page: Page) => take(page).getByTestId('importances')
const open = (page: Page, name: string, buffer: Buffer) =>
  inForce(page).getByTestId('imatrix-file').setInputFiles({ name, mimeType: 'application/octet-stream', buffer })
const refused = async (page: Page, name: string, buffer: Buffer) => {
  await open(page, name, buffer)
  const alert = page.getByRole('alert')
  await alert.getByText(name).first().waitFor({ timeout: LONG })
  const text = await alert.innerText()
  await alert.getByRole('button', { name: 'Dismiss' }).click()
  return text
}
const toGguf = async (page: Page, type: string) => {
  await page.getByLabel('Format').selectOption('gguf')
  await page.getByLabel('Number type').selectOption(type)
}
const drop = (page: Page, name: string, bytes: Iterable<number>) =>
  page.evaluate(
    ([called, content]) => {
      const transfer = new DataTransfer()
      transfer.items.add(new File([new Uint8Array(content)], called))
      window.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, cancelable: true }))
    },
    [name, [...bytes]] as const,
  )

describe.skipIf(!browser)('importances, with a mock engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('mock')
  })
  afterAll(() => site?.close())

  test('a file is used, makes the result out of date, outlives a reload, and goes again', async () => {
    const { page, errors } = await visit(site, ADVANCED)
    await runDemo(page)
    await compress(page, 3)
    expect(await inForce(page).count()).toBe(0)
    await toGguf(page, 'q4_k_m')
    expect(await inForce(page).innerText()).toContain('that are collected on the calibration text')
    await open(page, 'own.gguf', Buffer.from(imatrixBytes('stories.txt')))
    await inForce(page).getByText('collected on 6,144 tokens of stories.txt').waitFor()
    await page.getByText('The plan or what it rests on has changed since; compress again.').first().waitFor()
    expect(await take(page).getByRole('button', { name: 'Download the file' }).isDisabled()).toBe(true)
    await page.getByRole('button', { name: 'Compress again' }).click()
    await expect.poll(() => take(page).getByRole('button', { name: 'Download the file' }).isDisabled()).toBe(false)
    const recipe = JSON.parse(
      (await bytesOf(page, () => page.getByRole('button', { name: 'Save the recipe' }).click())).bytes.toString(),
    )
    expect(recipe.imatrix).toMatchObject({ name: 'own.gguf' })

    await page.reload()
    await page.getByTestId('verdict').waitFor()
    await page.getByLabel('Format').selectOption('gguf')
    expect(await inForce(page).innerText()).toContain('own.gguf')
    expect(await page.getByText('The plan or what it rests on has changed since; compress again.').count()).toBe(0)
    await inForce(page).getByRole('button', { name: 'Take it away' }).click()
    await page.getByText('The plan or what it rests on has changed since; compress again.').first().waitFor()
    // The recipe asks for the file that it was made with.
    const file = { name: 'recipe.json', mimeType: 'application/json', buffer: Buffer.from(JSON.stringify(recipe)) }
    await page.getByTestId('recipe-file').setInputFiles(file)
    await page
      .getByRole('alert')
      .getByText(
        'recipe.json: the recipe was made with the importance matrix own.gguf, which a recipe does not hold; open that file first.',
      )
      .waitFor()
    await open(page, 'own again.gguf', Buffer.from(imatrixBytes('stories.txt')))
    await inForce(page).getByText('own again.gguf').first().waitFor()
    await page.getByTestId('recipe-file').setInputFiles(file)
    await expect.poll(() => page.getByRole('alert').innerText()).toBe('')
    expect(errors).toEqual([])
  })

  test('it can be dropped; without a model, or of another, it is refused and nothing changes', async () => {
    const { page } = await visit(site, ADVANCED)
    await page.getByRole('button', { name: 'Run the demo' }).waitFor()
    await drop(page, 'own.gguf', imatrixBytes('stories.txt'))
    await page
      .getByRole('alert')
      .getByText('own.gguf holds importances of a model. Open that model first, then this file.')
      .waitFor()
    await runDemo(page)
    await compress(page, 3)
    await toGguf(page, 'q4_k_m')
    await drop(page, 'own.gguf', imatrixBytes('stories.txt'))
    await inForce(page).getByText('own.gguf').first().waitFor()
    expect(await refused(page, 'theirs.gguf', Buffer.from(imatrixBytes('other.txt')))).toContain(
      'it is of another model',
    )
    expect(await inForce(page).innerText()).toContain('own.gguf')
    await inForce(page).getByRole('checkbox', { name: 'Use importances' }).uncheck()
    expect(await inForce(page).innerText()).toContain('round all columns of a matrix alike')
    await page.getByText('The plan or what it rests on has changed since; compress again.').first().waitFor()
  })

  test.each(['light', 'dark'] as const)('axe finds nothing, %s', async colorScheme => {
    const { page } = await visit(site, ADVANCED, { colorScheme, reducedMotion: 'reduce' })
    await runDemo(page)
    await compress(page, 3)
    await toGguf(page, 'q4_k_m')
    await open(page, 'own.gguf', Buffer.from(imatrixBytes('stories.txt')))
    await inForce(page).getByRole('button', { name: 'Take it away' }).waitFor()
    expect(
      (await new AxeBuilder({ page }).include('#take').analyze()).violations.map(
        v => `${v.id}: ${v.nodes.map(n => n.target).join(' ')}`,
      ),
    ).toEqual([])
  })
})

describe.skipIf(!browser || !existsSync(ENGINE))('importances, with the compiled engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('real')
  })
  afterAll(() => site?.close())

  test(
    "a file of the demo is used, bad ones are refused in the engine's words, and those of the result are handed out",
    async () => {
      const { page, errors } = await visit(site, `${ADVANCED}&device=cpu`)
      await runDemo(page, LONG)
      await page.getByRole('radio', { name: 'MKA, as published' }).check()
      await compress(page, 3, LONG)
      await toGguf(page, 'q4_k_m')
      const own = readFileSync(OWN)
      await open(page, 'demo.imatrix.gguf', own)
      await inForce(page)
        .getByText('collected on 128 tokens of TinyStories, held-out part (built in)')
        .waitFor({ timeout: LONG })

      const zeros = (ending: string) => {
        const copy = Buffer.from(own)
        for (const [name, { bytes }] of readGguf(copy).tensors) if (name.endsWith(ending)) bytes.fill(0)
        return copy
      }
      expect(await refused(page, 'no-counts.gguf', zeros('.counts'))).toContain(
        'it counts no tokens, so that nothing is important',
      )
      expect(await refused(page, 'no-sums.gguf', zeros('.in_sum2'))).toContain('all its sums are zero')
      const uncounted = Buffer.from(own.toString('latin1').replaceAll('.counts', '.COUNTS'), 'latin1')
      expect(await refused(page, 'uncounted.gguf', uncounted)).toContain('has sums and no counts')
      expect(await refused(page, 'model.gguf', readFileSync('tests/data/models/gguf/stories260K-Q8_0.gguf'))).toContain(
        'and not an importance matrix',
      )
      expect(await refused(page, 'imatrix.dat', Buffer.from('old'))).toContain('convert one of the older format')
      expect(await refused(page, 'short.gguf', own.subarray(0, own.length / 2))).toMatch(/short\.gguf/)
      expect(await inForce(page).innerText()).toContain('demo.imatrix.gguf')

      await page.getByRole('button', { name: 'Compress again' }).click()
      const handed = take(page).getByRole('button', { name: 'Download its importances' })
      await expect.poll(() => handed.isDisabled(), { timeout: LONG }).toBe(false)
      const report = JSON.parse((await saved(page, 'the curves', 'JSON')).bytes.toString())
      expect([report.imatrix.name, report.output.dtype]).toEqual(['demo.imatrix.gguf', 'q4_k_m'])
      const { name, bytes } = await bytesOf(page, () => handed.click())
      expect(name).toBe('stories-planted-12L-laminated-9L.imatrix.gguf')
      const { metadata, tensors } = readGguf(bytes)
      expect(metadata.get('general.type')).toBe('imatrix')
      const layers = new Set([...tensors.keys()].flatMap(tensor => /^blk\.(\d+)\./.exec(tensor)?.[1] ?? []))
      expect(layers.size).toBe(9)
      // They are of the result, and not of the original.
      expect(await refused(page, 'of-the-result.gguf', bytes)).toContain('it is of another model')
      expect(errors).toEqual([])
    },
    LONG,
  )

  test(
    'projections are packed into a folder, and where their widths do not fit the engine says so',
    async () => {
      const { page } = await visit(site, `${ADVANCED}&device=cpu`)
      await runDemo(page, LONG)
      await page.getByRole('radio', { name: 'MKA, as published' }).check()
      await compress(page, 3, LONG)
      const type = page.getByLabel('Number type')
      await type.selectOption('int4-g128')
      await take(page).getByText('Compress again to measure with it, and to know the size').waitFor()
      await page.getByRole('button', { name: /^Compress( again)?$/ }).click()
      await page
        .getByRole('alert')
        .getByText(/cannot be stored as int4-g128, because groups of 128 do not divide its width of 172/)
        .waitFor({ timeout: LONG })
      expect(await type.inputValue()).toBe('keep')
      await page.getByRole('alert').getByRole('button', { name: 'Dismiss' }).click()
      await page.getByTestId('folder').setInputFiles('tests/data/architectures/qwen3/hf')
      await page.getByRole('button', { name: 'Compare the layers', exact: true }).click()
      await page.getByRole('button', { name: 'Compare the layers again' }).waitFor({ timeout: LONG })
      await compress(page, 1, LONG)
      await type.selectOption('int4')
      await page.getByTestId('unmeasured').waitFor()
      await page.getByRole('button', { name: 'Compress again' }).click()
      await page.getByTestId('unmeasured').waitFor({ state: 'detached', timeout: LONG })
      const { bytes } = await bytesOf(page, () => page.getByRole('button', { name: 'Download a zip' }).click())
      expect(bytes.includes('weight_packed') && bytes.includes('pack-quantized')).toBe(true)
    },
    LONG,
  )
})

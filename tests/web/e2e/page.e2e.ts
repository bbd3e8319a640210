import { AxeBuilder } from '@axe-core/playwright'
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  ADVANCED,
  cancelAt,
  choosePublished,
  compress,
  findBrowser,
  groupsOf,
  openSite,
  runDemo,
  type Site,
  visit,
} from './harness'
import { pickerAnswers, privateFiles } from './storage'
import { readZip } from './zip'

const MODEL = 'tests/data/models/stories260K'
const browser = findBrowser()
if (!browser) console.warn('SKIPPED: the page in a browser, because no Chromium was found (set CHROMIUM to its path)')

describe.skipIf(!browser)('the page, with a mock engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('mock')
  })
  afterAll(() => site?.close())

  test('opens on a picture, a sentence and two buttons', async () => {
    const { page, errors } = await visit(site)
    await page.getByRole('grid', { name: /stored result/ }).waitFor()
    expect(await page.getByRole('gridcell').count()).toBe(144)
    await page.getByText('Stored result; run it live.').waitFor()
    await page.getByRole('heading', { level: 1 }).waitFor()
    expect(await page.getByRole('button', { name: /Run the demo|Open a model/ }).count()).toBe(2)
    await expect.poll(() => page.getByTestId('device').textContent()).toContain('SwiftShader')
    expect(errors).toEqual([])
  })

  test('demo to a zip: one click, compare, remove 7, download', async () => {
    const { page, errors } = await visit(site)
    await runDemo(page)
    expect(await page.getByRole('gridcell', { name: 'layers 1 and 2: similarity 0.929' }).count()).toBe(2)
    await compress(page, 7)
    expect(await groupsOf(page)).toBe('[0][1 2 3][4 5 6][7 8 9][10 11]')
    expect(await page.getByTestId('verdict').innerText()).toMatch(
      /Perplexity 7.81 \(original 7.31; dropping the same layers [\d.]+\)/,
    )
    const downloading = page.waitForEvent('download')
    await page.getByRole('button', { name: 'Download a zip' }).click()
    const download = await downloading
    expect(download.suggestedFilename()).toBe('stories-planted-12L-laminated-5L.zip')
    const entries = readZip(await download.path())
    expect(entries.map(entry => entry.name.split('/')[1])).toEqual([
      'README.md',
      'config.json',
      'model.safetensors',
      'recipe.json',
      'tokenizer.json',
    ])
    expect(
      entries.every(entry => entry.method === 0 && entry.name.startsWith('stories-planted-12L-laminated-5L/')),
    ).toBe(true)
    expect(JSON.parse(entries[1]!.data.toString())).toMatchObject({ num_hidden_layers: 5 })
    await page.getByRole('button', { name: 'Remove it now' }).click()
    await expect.poll(() => privateFiles(page)).toEqual([])
    expect(errors).toEqual([])
  })

  test('writes into a folder where the browser can', async () => {
    const { page } = await visit(site)
    await runDemo(page)
    await compress(page, 7)
    await pickerAnswers(page, 'models')
    await page.getByRole('button', { name: 'Write into a folder' }).click()
    await page.getByTestId('saved').waitFor()
    const folder = 'models/stories-planted-12L-laminated-5L/'
    expect(await privateFiles(page)).toEqual(
      ['README.md', 'config.json', 'model.safetensors', 'recipe.json', 'tokenizer.json'].map(name => folder + name),
    )
    expect(await page.getByTestId('saved').innerText()).toContain(folder.slice(0, -1))
  })

  test.each(['Write into a folder', 'Download a zip'])('cancelling "%s" leaves nothing partial', async button => {
    const { page } = await visit(site)
    await runDemo(page)
    await compress(page, 1)
    await pickerAnswers(page, 'models')
    await cancelAt(page, 'Writing model.safetensors')
    await page.getByRole('button', { name: button }).click()
    await page.getByText('Cancelled; nothing was written.').waitFor()
    expect(await privateFiles(page)).toEqual([])
    expect(await page.getByRole('button', { name: button }).isEnabled()).toBe(true)
  })

  test('what a closed tab left in the private storage is removed at the next start', async () => {
    const { page } = await visit(site)
    // A picture of the same origin sees the same storage, and runs nothing that could clear it meanwhile.
    const icon = await page.locator('link[rel="icon"]').getAttribute('href')
    await page.goto(new URL(icon!, site.url).href)
    await page.evaluate(async () => {
      const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('laminate', { create: true })
      const job = await root.getDirectoryHandle('laminate-left', { create: true })
      await (await (await job.getFileHandle('x.zip', { create: true })).createWritable()).close()
    })
    expect(await privateFiles(page)).toHaveLength(1)
    await page.goto(site.url)
    await expect.poll(() => privateFiles(page)).toEqual([])
  })

  test('a run can be cancelled and run again', async () => {
    const { page } = await visit(site, ADVANCED)
    await runDemo(page)
    await page.getByLabel('Sequences').fill('512')
    await page.getByLabel('Sequences').press('Tab')
    await page.getByRole('button', { name: 'Compare the layers again' }).click()
    await page.getByText(/^Running layer [2-9] of 12/).waitFor()
    await page.getByRole('button', { name: 'Cancel' }).click()
    await page.getByText('Cancelled.', { exact: true }).waitFor()
    await page.getByRole('button', { name: 'Back to the defaults' }).click()
    await page.getByRole('button', { name: 'Compare the layers again' }).click()
    await page.getByRole('button', { name: 'Cancel' }).waitFor({ state: 'detached' })
    expect(await page.locator('#compress').innerText()).not.toContain('Cancelled')
  })

  test('the heatmap is read by keyboard', async () => {
    const { page } = await visit(site)
    await runDemo(page)
    const grid = page.getByRole('grid', { name: 'Similarity of the 12 layers' })
    await grid.locator('[tabindex="0"]').focus()
    for (const key of ['ArrowRight', 'ArrowRight', 'ArrowDown']) await page.keyboard.press(key)
    expect(await page.evaluate(() => document.activeElement?.getAttribute('aria-label'))).toBe(
      'layers 1 and 2: similarity 0.929',
    )
    await expect
      .poll(() => page.locator('#see [role=status]').first().innerText())
      .toMatch(/^Layers 1 and 2: similarity 0.929, .*\snats shared$/)
    await page.keyboard.press('Control+End')
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name: /layers 11 and 11/ }).waitFor()
    expect(await page.getByRole('slider', { name: 'Diffusion map of layer 11' }).count()).toBe(2)
  })

  test('a point of the map says its text, by keyboard', async () => {
    const { page } = await visit(site)
    await runDemo(page)
    const map = page.getByRole('slider', { name: 'Diffusion map of layer 2' })
    await map.focus()
    await page.keyboard.press('Home')
    expect(await map.getAttribute('aria-valuetext')).toMatch(/^text \d+: .+/)
  })

  test('a table stands for the picture', async () => {
    const { page } = await visit(site)
    await runDemo(page)
    await page.getByText('Table of the numbers').click()
    const table = page.getByRole('region', { name: 'Similarity of each pair of layers' })
    await expect.poll(() => table.getByRole('cell').count()).toBe(144)
  })

  test('a changed setting marks what rests on it', async () => {
    const { page } = await visit(site, ADVANCED)
    await runDemo(page)
    await compress(page, 7)
    await page.getByLabel('Points', { exact: true }).selectOption('mean')
    await page.getByText('The calibration settings have changed since; compare the layers again.').first().waitFor()
    expect(await page.getByRole('button', { name: 'Compress again' }).isDisabled()).toBe(true)
    expect(await page.getByRole('link', { name: 'Compare (out of date)' }).count()).toBe(1)
  })

  test('a collapsed model is called so', async () => {
    const { page } = await visit(site)
    await page.getByTestId('folder').setInputFiles(MODEL)
    await page.getByRole('button', { name: 'Compare the layers' }).click()
    await page.getByRole('button', { name: 'Compare the layers again' }).waitFor()
    await choosePublished(page)
    await compress(page, 2)
    expect(await page.getByTestId('collapsed').innerText()).toContain('Collapsed')
  })

  test('opens a folder, then loose files, then a drop', async () => {
    const { page } = await visit(site)
    await page.getByTestId('folder').setInputFiles(MODEL)
    await page.getByRole('heading', { level: 1, name: 'stories260K' }).waitFor()
    await page
      .getByTestId('files')
      .setInputFiles(['config.json', 'model.safetensors', 'tokenizer.json'].map(name => `${MODEL}/${name}`))
    await page.getByText('3 files recognised').waitFor()
    await page.evaluate(
      config => {
        const transfer = new DataTransfer()
        transfer.items.add(new File([config], 'config.json'))
        window.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, cancelable: true }))
      },
      readFileSync(`${MODEL}/config.json`, 'utf8'),
    )
    await page.getByText(/model.safetensors is missing/).waitFor()
  })

  test.each([
    ['no config', [], /There is no config.json/],
    ['a config that is not JSON', [['config.json', '{']], /config.json is not valid JSON/],
    ['an architecture nobody knows', [['config.json', '{"model_type":"mamba"}']], /"mamba" is not supported/],
    [
      'a header longer than the file',
      [
        ['config.json', '{"model_type":"llama"}'],
        ['model.safetensors', '\xff\xff\xff\x7f\0\0\0\0'],
      ],
      /model.safetensors: the header claims/,
    ],
  ] as const)('%s: one sentence, and the page stays usable', async (_, files, sentence) => {
    const { page } = await visit(site)
    await page.getByTestId('files').setInputFiles(
      [...files, ['notes.log', 'x']].map(([name, text]) => ({
        name: name!,
        mimeType: 'text/plain',
        buffer: Buffer.from(text!, 'latin1'),
      })),
    )
    await page.getByRole('alert').getByText(sentence).waitFor()
    await runDemo(page)
    expect(await page.getByRole('alert').innerText()).toBe('')
  })

  test.each([
    ['panic', /The engine stopped unexpectedly/],
    ['too short', /gives 1 sequence and at least 20 are needed/],
  ])('own text, "%s": one sentence, and the next run works', async (text, sentence) => {
    const { page } = await visit(site)
    await runDemo(page)
    await page.getByLabel('Text', { exact: true }).selectOption('own')
    await page.getByLabel('Text to run through the model').fill(text)
    await page.getByLabel('Text to run through the model').blur()
    await page.getByRole('button', { name: 'Compare the layers again' }).click()
    await page.getByRole('alert').getByText(sentence).waitFor()
    await page.getByLabel('Text', { exact: true }).selectOption('builtin')
    await page.getByRole('button', { name: 'Compare the layers again' }).click()
    await page.getByRole('button', { name: 'Cancel' }).waitFor({ state: 'detached' })
    await compress(page, 7)
  })

  test('a graphics device that is lost twice: the run goes on on the CPU by itself, and says so', async () => {
    const { page } = await visit(site)
    await runDemo(page)
    await page.getByLabel('Text', { exact: true }).selectOption('own')
    await page.getByLabel('Text to run through the model').fill('lost on a GPU '.repeat(20))
    await page.getByLabel('Text to run through the model').blur()
    await page.getByRole('button', { name: 'Compare the layers again' }).click()
    await page
      .getByTestId('remark')
      .getByText(/goes on with what was kept, on the CPU/)
      .waitFor()
    await expect.poll(() => page.getByTestId('device').textContent()).toContain('CPU (wasm SIMD)')
    await page.getByRole('button', { name: 'Cancel' }).waitFor({ state: 'detached' })
    await compress(page, 7)
  })

  test('nothing leaves the origin, and the policy says so', async () => {
    const { page, requests } = await visit(site)
    await runDemo(page)
    await compress(page, 7)
    const downloading = page.waitForEvent('download')
    await page.getByRole('button', { name: 'Download a zip' }).click()
    await downloading
    const { origin } = new URL(site.url)
    expect(requests.length).toBeGreaterThan(2)
    expect(requests.filter(url => new URL(url).origin !== origin)).toEqual([])
    const policy = await page.locator('meta[http-equiv=Content-Security-Policy]').getAttribute('content')
    expect(policy).toContain("default-src 'none'")
    // Whatever address the user names, as long as it is encrypted or this computer's own; the frame is the download's.
    expect(policy).toContain("connect-src 'self' https: http://localhost:* http://127.0.0.1:*; frame-src 'self';")
    expect(policy).not.toContain('unsafe-inline')
    const header = (await page.request.get(site.url)).headers()['content-security-policy']
    expect(header).toContain(policy!)
    const blocked = await page.evaluate(async () => {
      const violated = new Promise<string>(resolve =>
        addEventListener('securitypolicyviolation', event => resolve(event.effectiveDirective), { once: true }),
      )
      void fetch('http://example.com/').catch(() => {})
      return violated
    })
    expect(blocked).toBe('connect-src')
  })

  test('?device=cpu', async () => {
    const { page } = await visit(site, '?device=cpu')
    await expect.poll(() => page.getByTestId('device').textContent()).toContain('CPU (wasm SIMD)')
  })

  describe.each(['light', 'dark'] as const)('%s', colorScheme => {
    test('axe finds nothing, at the start and at the end', async () => {
      const { page } = await visit(site, ADVANCED, { colorScheme, reducedMotion: 'reduce' })
      const check = async () =>
        (await new AxeBuilder({ page }).analyze()).violations.map(
          v => `${v.id}: ${v.nodes.map(n => n.target).join(' ')}`,
        )
      expect(await check()).toEqual([])
      await runDemo(page)
      await compress(page, 8)
      for (const summary of await page.locator('summary').all()) await summary.click()
      expect(await check()).toEqual([])
      await page.getByLabel('Points', { exact: true }).selectOption('mean')
      await page
        .getByTestId('files')
        .setInputFiles([{ name: 'notes.log', mimeType: 'text/plain', buffer: Buffer.from('x') }])
      await page
        .getByRole('alert')
        .getByText(/config.json/)
        .waitFor()
      expect(await check()).toEqual([])
    }, 180_000)
    test.each([1440, 1024, 390, 320])('nothing scrolls sideways at %d px', async width => {
      const { page } = await visit(site, ADVANCED, { colorScheme, viewport: { width, height: 844 } })
      const excess = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
      expect(await excess()).toBeLessThanOrEqual(0)
      // As a telephone does that offers to install the page.
      await page.evaluate(() => dispatchEvent(new Event('beforeinstallprompt')))
      await page.getByRole('button', { name: 'Install' }).waitFor()
      expect(await excess()).toBeLessThanOrEqual(0)
      await runDemo(page)
      await compress(page, 8)
      for (const summary of await page.locator('summary').all()) await summary.click()
      expect(await excess()).toBeLessThanOrEqual(0)
    })
  })
})

import { AxeBuilder } from '@axe-core/playwright'
import { readFileSync } from 'node:fs'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Hub } from '../hub'
import { compress, findBrowser, openSite, runDemo, visit, type Site } from './harness'
import { pickerAnswers, privateFiles, savePickerAnswers } from './storage'
import { readZip } from './zip'

const MODEL = 'tests/data/models/stories260K'
const file = (name: string) => new Uint8Array(readFileSync(`${MODEL}/${name}`))
const browser = findBrowser()
if (!browser) console.warn('SKIPPED: models from the network, because no Chromium was found (set CHROMIUM to its path)')

describe.skipIf(!browser)('models from the network and results to the disk, with a mock engine', () => {
  let site: Site
  let hub: Hub
  const gguf = new Uint8Array(33_000_000)
  gguf.set(new TextEncoder().encode('GGUF'))
  const folder = {
    'config.json': file('config.json'),
    'tokenizer.json': file('tokenizer.json'),
    'model.safetensors': file('model.safetensors'),
  }

  beforeAll(async () => {
    site = await openSite('mock')
    hub = await new Hub({
      'org/tiny': folder,
      'org/both': {
        ...folder,
        'm-Q8_0.gguf': gguf.subarray(0, 5000),
        'm-F16-00001-of-00002.gguf': gguf.subarray(0, 5000),
        'm-F16-00002-of-00002.gguf': gguf.subarray(0, 3000),
        'b-00002-of-00002.gguf': gguf.subarray(0, 10),
      },
      'org/big': { 'big.gguf': gguf },
    }).start()
  })
  afterAll(async () => {
    hub?.stop()
    await site?.close()
  })
  beforeEach(() => {
    Object.assign(hub.switches, {
      ranges: true,
      redirect: false,
      failures: [],
      spoiled: [],
      etag: '"v1"',
      token: null,
      status: {},
    })
    hub.asked.length = 0
  })

  const name = async (page: Page, text: string) => {
    await page.getByLabel('Or load one from Hugging Face').fill(text)
    await page.getByRole('button', { name: 'Open it' }).click()
  }
  const useHub = async (page: Page) => {
    await page.getByText('Private models and other servers').click()
    await page.getByLabel('Server').fill(hub.url)
  }
  const heading = (page: Page, text: string) => page.getByRole('heading', { level: 1, name: text }).waitFor()

  test('a repository with one model opens at once, and only its server is asked', async () => {
    hub.switches.redirect = true
    const { page, requests, errors } = await visit(site)
    await expect.poll(() => page.getByTestId('device').textContent()).toContain('SwiftShader')
    const origins = () => new Set(requests.map(url => new URL(url).origin))
    const { origin } = new URL(site.url)
    expect(origins()).toEqual(new Set([origin]))
    expect(requests.filter(url => /remote|find|hub|stream|service/.test(new URL(url).pathname))).toEqual([])
    await useHub(page)
    await name(page, 'org/tiny@v1.0')
    await heading(page, 'tiny')
    await page.getByText('3 files recognised').waitFor()
    expect(origins()).toEqual(new Set([origin, hub.url, hub.elsewhere]))
    expect(hub.paths()[0]).toContain('/api/models/org/tiny/tree/v1.0')
    expect(errors).toEqual([])
  })

  test('several models are listed with their sizes, and one is chosen by keyboard', async () => {
    const { page } = await visit(site)
    await useHub(page)
    await name(page, 'org/both')
    const found = page.getByTestId('found')
    await found.getByText('org/both holds 4 models. Choose one:').waitFor()
    expect((await found.getByRole('listitem').allInnerTexts()).map(text => text.replace(/\s+/g, ' ').trim())).toEqual([
      expect.stringMatching(/^safetensors [\d.]+ MB, 3 files$/),
      'b-00001-of-00002.gguf 10 bytes; b-00001-of-00002.gguf is missing there',
      'm-Q8_0.gguf 5.00 kB',
      'm-F16-00001-of-00002.gguf 8.00 kB, 2 files',
    ])
    expect(await found.getByRole('button', { name: 'b-00001-of-00002.gguf' }).isDisabled()).toBe(true)
    await found.getByRole('button', { name: 'm-F16-00001-of-00002.gguf' }).focus()
    await page.keyboard.press('Enter')
    await heading(page, 'm-F16')
    await page.getByText('2 files recognised').waitFor()
    expect(await found.count()).toBe(0)
  })

  test('an address of a file, and the keyboard alone', async () => {
    const { page } = await visit(site)
    await page.getByLabel('Or load one from Hugging Face').fill(`${hub.url}/org/tiny/resolve/main/model.safetensors`)
    await page.keyboard.press('Enter')
    await heading(page, 'main')
    expect(hub.paths().some(path => path.startsWith('/api'))).toBe(false)
  })

  test('a private repository: what to do, then a token, which is not kept and not passed on', async () => {
    Object.assign(hub.switches, { token: 'secret', redirect: true })
    const { page } = await visit(site)
    await useHub(page)
    await name(page, 'org/tiny')
    await page
      .getByRole('alert')
      .getByText(/asks who you are \(status 401\).*give a token that may read it/)
      .waitFor()
    hub.asked.length = 0
    await page.getByLabel('Token').fill('secret')
    await name(page, 'org/tiny')
    await heading(page, 'tiny')
    const tokens = (elsewhere: boolean) =>
      new Set(hub.asked.filter(asked => asked.elsewhere === elsewhere).map(asked => asked.authorization))
    expect([tokens(false), tokens(true)]).toEqual([new Set(['Bearer secret']), new Set([undefined])])
    expect(await page.evaluate(() => JSON.stringify([localStorage, sessionStorage, document.cookie]))).not.toContain(
      'secret',
    )
    await page.reload()
    await page.getByText('Private models and other servers').click()
    expect(await page.getByLabel('Token').inputValue()).toBe('')
  })

  test.each([
    ['org/nobody', {}, /org\/nobody: .* has no such thing \(status 404\)\. Check the spelling/],
    [
      'org/tiny',
      { '/org/tiny/resolve/main/model.safetensors': 403 },
      /model\.safetensors: .* refuses access \(status 403\)\. Accept the licence/,
    ],
    ['not a name', {}, /"not a name" is neither a repository nor an address/],
    ['http://example.com/a.gguf', {}, /http:\/\/example\.com is not secure/],
  ])('%s: one sentence, and the page stays usable', async (text, status, sentence) => {
    hub.switches.status = status
    const { page } = await visit(site)
    await useHub(page)
    await name(page, text)
    await page.getByRole('alert').getByText(sentence).waitFor()
    hub.switches.status = {}
    await name(page, 'org/tiny')
    await heading(page, 'tiny')
    expect(await page.getByRole('alert').innerText()).toBe('')
  })

  test('a connection that breaks in the middle goes on by itself', async () => {
    hub.switches.failures = [{ status: 503 }]
    hub.switches.spoiled = [
      { how: 'truncate', after: 9 },
      { how: 'truncate', after: 100 },
    ]
    const { page } = await visit(site)
    await useHub(page)
    await name(page, 'org/tiny')
    await heading(page, 'tiny')
    expect(hub.switches.spoiled).toEqual([])
  })

  test('a server without ranges: kept in the private storage until another model is opened', async () => {
    hub.switches.ranges = false
    const { page } = await visit(site)
    await name(page, `${hub.url}/org/big/resolve/main/big.gguf`)
    await heading(page, 'big')
    expect((await privateFiles(page)).map(path => path.split('/').at(-1))).toEqual(['big.gguf'])
    await page.getByRole('button', { name: 'Run the demo instead' }).click()
    await expect.poll(() => privateFiles(page)).toEqual([])
  })

  test('a search can be cancelled', async () => {
    hub.switches.failures = [{ status: 503, headers: { 'Retry-After': '30' } }]
    const { page } = await visit(site)
    await useHub(page)
    await name(page, 'org/tiny')
    await page.getByText('Reading the list of files of org/tiny').waitFor()
    await page.getByRole('button', { name: 'Cancel' }).click()
    await page.getByText('Cancelled.', { exact: true }).waitFor()
  })

  const openGguf = async (page: Page) => {
    await page
      .getByTestId('files')
      .setInputFiles([{ name: 'own.gguf', mimeType: 'application/octet-stream', buffer: Buffer.from('GGUF....') }])
    await page.getByRole('button', { name: 'Compare the layers' }).click()
    await page.getByRole('button', { name: 'Compare the layers again' }).waitFor()
    await compress(page, 1)
  }
  const downloaded = async (page: Page, button: string) => {
    const downloading = page.waitForEvent('download')
    await page.getByRole('button', { name: button }).click()
    return downloading
  }

  describe.each([
    ['streamed', 'allow'],
    ['packed, without a service worker', 'block'],
  ] as const)('%s', (how, serviceWorkers) => {
    test('a GGUF file goes out as itself', async () => {
      const { page } = await visit(site, '', { serviceWorkers })
      await openGguf(page)
      const download = await downloaded(page, 'Download the file')
      expect(download.suggestedFilename()).toMatch(/^.+-laminated-4L\.gguf$/)
      expect(readFileSync(await download.path()).length).toBe(4 * (4 * 46_000 + 32_832))
      await page.getByText(how === 'streamed' ? 'All of it has been handed over.' : 'Read back and saved as').waitFor()
      if (how === 'streamed')
        expect((await downloaded(page, 'Download it again')).suggestedFilename()).toBe(download.suggestedFilename())
      await page.getByRole('button', { name: 'Remove it now' }).click()
      await expect.poll(() => privateFiles(page)).toEqual([])
    })
    test('several files go out as a zip', async () => {
      const { page, errors } = await visit(site, '', { serviceWorkers })
      await runDemo(page)
      await compress(page, 7)
      const entries = readZip(await (await downloaded(page, 'Download a zip')).path())
      expect(entries.map(entry => entry.name.split('/')[1]).sort()).toEqual([
        'README.md',
        'config.json',
        'model.safetensors',
        'recipe.json',
        'tokenizer.json',
      ])
      expect(entries.find(entry => entry.name.endsWith('model.safetensors'))!.size).toBeGreaterThan(100_000)
      const kept = (await privateFiles(page)).map(path => path.split('/').at(-1)!.replace(/.*\./, '')).sort()
      expect(kept).toEqual(how === 'streamed' ? ['json', 'json', 'json', 'md', 'safetensors'] : ['zip'])
      expect(errors).toEqual([])
    })
  })

  test('a GGUF file is saved where the user chooses, or into a folder', async () => {
    const { page } = await visit(site)
    await openGguf(page)
    await savePickerAnswers(page, 'mine.gguf')
    await page.getByRole('button', { name: 'Choose where to save it' }).click()
    await page.getByText('Written to mine.gguf and read back').waitFor()
    expect(await privateFiles(page)).toEqual(['mine.gguf'])
    await pickerAnswers(page, 'models')
    await page.getByRole('button', { name: 'Write into a folder' }).click()
    await page.getByText(/Written to models\/.*-laminated-4L and read back/).waitFor()
  })

  test('too little room is said before anything is written', async () => {
    const { page } = await visit(site)
    await page.evaluate(() => {
      navigator.storage.estimate = async () => ({ quota: 10e6, usage: 9e6 })
    })
    await runDemo(page)
    await compress(page, 7)
    await page
      .getByText(/A download is put together in this browser's storage, which needs .* and has 1\.00.MB free\./)
      .waitFor()
    expect(await page.getByRole('button', { name: 'Download a zip' }).isDisabled()).toBe(true)
  })

  describe.each(['light', 'dark'] as const)('%s', colorScheme => {
    test.each([1440, 390])(
      'axe finds nothing and nothing scrolls sideways at %d px, with everything shown',
      async width => {
        const { page } = await visit(site, '', {
          colorScheme,
          reducedMotion: 'reduce',
          viewport: { width, height: 900 },
        })
        await useHub(page)
        await name(page, 'org/both')
        await page.getByTestId('found').waitFor()
        expect(
          (await new AxeBuilder({ page }).analyze()).violations.map(
            v => `${v.id}: ${v.nodes.map(n => n.target).join(' ')}`,
          ),
        ).toEqual([])
        expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0)
      },
    )
  })
})

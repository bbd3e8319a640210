import type { BrowserContextOptions, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { imatrixBytes } from '../mock/imatrix'
import { choosePublished, compress, findBrowser, openSite, runDemo, visit, type Site } from './harness'
import { difference, notComparable, typesetting } from './looks'

const browser = findBrowser()
if (!browser) console.warn('SKIPPED: how the page looks, because no Chromium was found (set CHROMIUM to its path)')

/** Numbers that differ from one machine or run to the next are made the same. */
async function still(page: Page): Promise<void> {
  await page.addInitScript(() => {
    navigator.storage.estimate = async () => ({ quota: 20e9, usage: 0 })
    Object.defineProperty(navigator, 'serviceWorker', { value: undefined })
  })
  await page.reload()
  // A part that is taller than the window is put together from pieces, and the bar would lie over some of them.
  await page.locator('.sticky').evaluate((bar: HTMLElement) => {
    bar.style.position = 'static'
  })
  await expect.poll(() => page.getByTestId('device').textContent()).toContain('SwiftShader')
}

const ownText = async (page: Page, text: string) => {
  await page.getByLabel('Text', { exact: true }).selectOption('own')
  await page.getByLabel('Text to run through the model').fill(text)
  await page.getByLabel('Text to run through the model').blur()
  await page.getByRole('button', { name: 'Compare the layers again' }).click()
}

/** Each screen and state: what brings the page there, and the part that is looked at. */
const STATES: [name: string, reach: (page: Page) => Promise<unknown>, part: string | null][] = [
  ['start', async () => {}, null],
  ['model', runDemo, '#model'],
  ['see', async () => {}, '#see'],
  ['calibrate', async () => {}, '#calibrate'],
  ['plan', async () => {}, '#plan'],
  ['compress', page => compress(page, 7), '#compress'],
  ['judge', async () => {}, '#judge'],
  [
    'sizes',
    async page => {
      await page.getByRole('button', { name: 'Measure 4 sizes' }).click()
      await page.getByTestId('reading').waitFor()
    },
    '[data-testid=more-text]',
  ],
  ['take', async () => {}, '#take'],
  [
    'compare',
    async page => {
      await page.getByRole('button', { name: 'Compare the methods' }).click()
      await page.getByRole('button', { name: 'Compare the methods again' }).waitFor()
    },
    '#compare',
  ],
  [
    'frontier',
    async page => {
      await page.getByRole('button', { name: 'Fewer layers or fewer bits?' }).click()
      await page.getByRole('button', { name: 'Compare the methods again' }).click()
      await page.getByTestId('winner').waitFor()
    },
    '#compare',
  ],
  [
    'importances',
    async page => {
      await page.getByRole('switch', { name: 'Advanced' }).check()
      await page.getByLabel('Format').selectOption('gguf')
      await page.getByLabel('Number type').selectOption('q4_k_m')
      await page
        .locator('#take')
        .getByTestId('imatrix-file')
        .setInputFiles({
          name: 'own.imatrix.gguf',
          mimeType: 'application/octet-stream',
          buffer: Buffer.from(imatrixBytes('stories.txt')),
        })
      await page.locator('#take').getByText('collected on 6,144 tokens of stories.txt').waitFor()
    },
    '#take',
  ],
  [
    'collapsed',
    async page => {
      await page.getByRole('switch', { name: 'Advanced' }).uncheck()
      await choosePublished(page)
      await compress(page, 8)
    },
    '#judge',
  ],
  [
    'failed',
    async page => {
      await ownText(page, 'too short')
      await page
        .getByRole('alert')
        .getByText(/gives 1 sequence/)
        .waitFor()
    },
    '.sticky',
  ],
  ['stale', async () => {}, '#plan'],
  [
    'busy',
    async page => {
      await page.getByRole('button', { name: 'Dismiss' }).click()
      await page.getByLabel('Text to run through the model').fill('hang')
      await page.getByLabel('Text to run through the model').blur()
      await page.getByRole('button', { name: 'Compare the layers again' }).click()
      await page.getByRole('button', { name: 'Cancel' }).waitFor()
    },
    '#see',
  ],
]

describe.skipIf(!browser)('how the page looks, with a mock engine', () => {
  let site: Site
  let reason = ''
  beforeAll(async () => {
    site = await openSite('mock')
    const { page } = await visit(site)
    reason = notComparable(await typesetting(site.browser, page))
    if (reason) console.warn(`SKIPPED: how the page looks, because ${reason}`)
  })
  afterAll(() => site?.close())

  /** A model whose layers are of different kinds, and the step of the walk that is about such models. */
  async function ofKinds(kind: string, width: number, options: BrowserContextOptions): Promise<string[]> {
    // So tall that the footer of the walk lies over nothing.
    const { page } = await visit(site, '', { ...options, viewport: { width, height: 2000 } })
    await still(page)
    await page.getByTestId('folder').setInputFiles('tests/data/architectures/jamba/hf')
    await page.getByRole('button', { name: 'Compare the layers', exact: true }).click()
    await page.getByRole('button', { name: 'Compare the layers again' }).waitFor()
    const differences = [await difference(page, `kinds-${kind}`, page.locator('#see .reading'))]
    await page.evaluate(() => {
      location.hash = '#walk/kinds'
    })
    await page.getByRole('heading', { name: 'Layers of different kinds' }).waitFor()
    return [...differences, await difference(page, `walk-kinds-${kind}`, page.locator('dialog .stage'))]
  }

  test.for([
    ['1440-light', 1440, 'light'],
    ['1440-dark', 1440, 'dark'],
    ['390-light', 390, 'light'],
  ] as const)('%s', { timeout: 120_000 }, async ([kind, width, colorScheme], context) => {
    if (reason) return context.skip(reason)
    const { page } = await visit(site, '', { viewport: { width, height: 900 }, colorScheme, reducedMotion: 'reduce' })
    await still(page)
    const differences: string[] = []
    for (const [name, reach, part] of STATES) {
      await reach(page)
      await page.mouse.move(0, 0)
      await page.evaluate(() => (document.activeElement as HTMLElement | null)?.blur())
      differences.push(await difference(page, `${name}-${kind}`, part ? page.locator(part) : page))
    }
    differences.push(...(await ofKinds(kind, width, { colorScheme, reducedMotion: 'reduce' })))
    expect(differences.filter(Boolean)).toEqual([])
  })
})

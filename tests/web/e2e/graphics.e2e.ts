import { existsSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ENGINE, findBrowser, openSite, runDemo, type Site, visitWith } from './harness'

const LONG = 300_000
const missing = [
  !findBrowser() && 'no Chromium was found (set CHROMIUM to its path)',
  !existsSync(ENGINE) && 'the engine has not been compiled',
].filter(Boolean)
if (missing.length) console.warn(`SKIPPED: graphics devices that are of no use, because ${missing.join(' and ')}`)

/** What the browser tells of its adapter, so that the emulated one passes for a card. */
const CARD = `
  for (const [key, value] of Object.entries({ vendor: 'acme', architecture: 'one', device: '', description: '', isFallbackAdapter: false }))
    Object.defineProperty(GPUAdapterInfo.prototype, key, { get: () => value })
`

/** Graphics that fail as some browsers' do, and what the page says of them. */
const FAULTS = {
  'computes nothing': [
    'GPUComputePassEncoder.prototype.dispatchWorkgroups = () => {}',
    /acme one computes wrong products/,
  ],
  'never answers': [
    'GPUBuffer.prototype.mapAsync = () => new Promise(() => {})',
    /the graphics device does not answer within 30 seconds/,
  ],
  'ends the engine': [
    "GPUDevice.prototype.createComputePipeline = () => { throw new Error('more than there is') }",
    /it stopped the engine .*more than there is/,
  ],
  'is slow': ['', /acme one is slower than the CPU here: [\d.]+ milliseconds/],
} as const

describe.skipIf(missing.length > 0)('a graphics device that', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('real')
  })
  afterAll(() => site?.close())

  test.each(Object.entries(FAULTS))(
    '%s is left for the CPU, and the page says why',
    async (_, [fault, said]) => {
      const page = await visitWith(site, CARD + fault)
      await expect.poll(() => page.getByTestId('device').textContent(), { timeout: 90_000 }).toMatch(/CPU \(wasm SIMD/)
      expect(await page.locator('.device').innerText()).toMatch(said)
      expect(await page.getByRole('alert').innerText()).toBe('')
      await runDemo(page, LONG)
      await page.context().close()
    },
    LONG,
  )

  test(
    'computes nothing and is asked for by name is an error that says so, and the CPU is one click away',
    async () => {
      const page = await visitWith(site, FAULTS['computes nothing'][0], '?device=gpu')
      await expect.poll(() => page.getByRole('alert').innerText(), { timeout: 60_000 }).toMatch(/no GPU can be used/i)
      await page.getByRole('button', { name: 'Run it on the CPU' }).click()
      await expect.poll(() => page.getByTestId('device').textContent(), { timeout: 60_000 }).toMatch(/CPU \(wasm SIMD/)
      await page.context().close()
    },
    LONG,
  )
})

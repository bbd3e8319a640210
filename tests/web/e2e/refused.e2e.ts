import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ADVANCED, findBrowser, openSite, runDemo, type Site, visit } from './harness'

const browser = findBrowser()
if (!browser) console.warn('SKIPPED: what cannot be opened, because no Chromium was found (set CHROMIUM to its path)')

describe.skipIf(!browser)('what cannot be opened, with a mock engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('mock')
  })
  afterAll(() => site?.close())

  test('what is dropped during a run is refused aloud', async () => {
    const { page } = await visit(site, ADVANCED)
    await runDemo(page)
    await page.getByLabel('Sequences').fill('512')
    await page.getByLabel('Sequences').press('Tab')
    await page.getByRole('button', { name: 'Compare the layers again' }).click()
    await page
      .getByText(/^Running layer/)
      .first()
      .waitFor()
    await page.evaluate(() => {
      const dataTransfer = new DataTransfer()
      dataTransfer.items.add(new File(['GGUF'], 'other.gguf'))
      dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true }))
    })
    await page
      .getByRole('alert')
      .getByText('A step is running. Wait for it or cancel it, then open this again.')
      .waitFor()
    await page.getByRole('button', { name: 'Cancel' }).click()
    await page.getByText('Cancelled.', { exact: true }).waitFor()
    await page.getByRole('heading', { level: 1, name: 'stories-planted-12L' }).waitFor()
  })

  test('one part of a model in several is refused with what to do', async () => {
    const { page } = await visit(site, ADVANCED)
    await page
      .getByTestId('files')
      .setInputFiles([{ name: 'm-00001-of-00003.gguf', mimeType: '', buffer: Buffer.from('GGUF') }])
    await page
      .getByRole('alert')
      .getByText(
        'This is one part of a model in 3. Choose or drop all 3 together: m-00001-of-00003.gguf to m-00003-of-00003.gguf.',
      )
      .waitFor()
  })

  test('without a network the name of a model on one is refused at once, with what works without', async () => {
    const { page } = await visit(site, ADVANCED)
    await page.getByLabel('Or load one from Hugging Face').fill('org/name')
    // What looks names up is there; only the network is not.
    await page.getByTestId('kept').waitFor({ state: 'attached' })
    await page.context().setOffline(true)
    const started = Date.now()
    await page.getByRole('button', { name: 'Open it' }).click()
    await page
      .getByRole('alert')
      .getByText(
        'org/name: this device has no network connection. Connect it, then run the step again; models on your disk work without one, and the demo does once it has run.',
      )
      .waitFor()
    expect(Date.now() - started).toBeLessThan(4000)
  })
})

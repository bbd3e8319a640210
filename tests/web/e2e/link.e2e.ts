import type { Page } from 'playwright-core'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ADVANCED, bytesOf, compress, findBrowser, openSite, runDemo, visit, type Site } from './harness'

const browser = findBrowser()
if (!browser) console.warn('SKIPPED: links and the way back, because no Chromium was found (set CHROMIUM to its path)')

describe.skipIf(!browser)('links and the way back, with a mock engine', () => {
  let site: Site
  let page: Page
  let link: string
  const report = join(mkdtempSync(join(tmpdir(), 'laminate-link-')), 'report.html')

  beforeAll(async () => {
    site = await openSite('mock')
    ;({ page } = await visit(site, ADVANCED))
    await runDemo(page)
    await compress(page, 7)
    link = await page.getByLabel('Link to this result').inputValue()
    writeFileSync(
      report,
      (await bytesOf(page, () => page.getByRole('button', { name: 'Save the report' }).click())).bytes,
    )
  })
  afterAll(() => site?.close())

  test('Back from a link that was pasted shows the page again, and Forward the link', async () => {
    const { page, errors } = await visit(site)
    const hero = page.getByText('Stored result; run it live.')
    await hero.waitFor()
    await page.evaluate(
      hash => {
        location.hash = hash
      },
      link.slice(link.indexOf('#')),
    )
    const viewed = page.getByText('View only')
    await viewed.waitFor()
    // The walk lies over it and leaves it there.
    await page.getByRole('link', { name: 'How it works' }).click()
    await page.getByRole('button', { name: 'Back to the page' }).waitFor()
    await page.goBack()
    await page.getByRole('dialog').waitFor({ state: 'detached' })
    await viewed.waitFor()
    await page.goBack()
    await hero.waitFor()
    expect([await viewed.count(), new URL(page.url()).hash]).toEqual([0, ''])
    await page.goForward()
    await viewed.waitFor()
    // What is opened from a file is not what the address says.
    await page.getByText('Open a result without its model').click()
    await page.getByTestId('result-file').setInputFiles(report)
    await page.getByText('opened from report.html').waitFor()
    expect(new URL(page.url()).hash).toBe('')
    await page.getByRole('button', { name: 'Close it' }).click()
    await hero.waitFor()
    expect(errors).toEqual([])
  })

  test('what was kept is shown when a link is closed', async () => {
    const other = await page.context().newPage()
    await other.goto(link)
    await other.getByText('View only').waitFor()
    await other.getByRole('button', { name: 'Close it' }).click()
    await other.getByTestId('restored').waitFor()
    expect(new URL(other.url()).hash).toBe('')
    await other.close()
  })

  test('the recipe is the same wherever it is saved', async () => {
    const [plan, share] = [
      await bytesOf(page, () => page.getByRole('button', { name: 'Save the recipe' }).click()),
      await bytesOf(page, () => page.getByRole('button', { name: 'The recipe alone' }).click()),
    ]
    const [one, two] = [plan, share].map(({ bytes }) => JSON.parse(bytes.toString()) as { laminate: string })
    expect(one).toEqual(two)
    expect(one!.laminate).toMatch(/^\d+\.\d+\.\d+/)
  })
})

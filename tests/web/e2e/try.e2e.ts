import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { AxeBuilder } from '@axe-core/playwright'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  ADVANCED,
  choosePublished,
  compress,
  ENGINE,
  findBrowser,
  openSite,
  runDemo,
  type Site,
  visit,
} from './harness'
import { privateFiles } from './storage'

const LONG = 300_000
const missing = [
  !findBrowser() && 'no Chromium was found (set CHROMIUM to its path)',
  !existsSync(ENGINE) && 'the engine has not been compiled',
].filter(Boolean)
if (missing.length) console.warn(`SKIPPED: writing text with both models, because ${missing.join(' and ')}`)

describe.skipIf(missing.length > 0)('both models continue a text in llama.cpp', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('real')
  })
  afterAll(() => site?.close())

  const text = (page: Page, which: string) => page.getByTestId(`trial-${which}`).innerText()
  const both = async (page: Page) => {
    await page.getByRole('button', { name: 'Continue with both' }).click()
    await page
      .getByRole('status')
      .filter({ hasText: 'Both models have written.' })
      .waitFor({ timeout: LONG, state: 'attached' })
  }

  test(
    'the demo: "Once upon a time"',
    async () => {
      const { page, requests, errors } = await visit(site, `${ADVANCED}&device=cpu`)
      await runDemo(page, LONG)
      await choosePublished(page)
      await compress(page, 7, LONG)
      expect(requests.filter(url => /llama/.test(url) && !/laminate/.test(url))).toEqual([])
      await both(page)
      const [original, compressed] = [await text(page, 'original'), await text(page, 'compressed')]
      console.log(
        `original: ${original}\ncompressed: ${compressed}\n${(await page.getByTestId('trial').locator('.small').allInnerTexts()).join(' | ')}`,
      )
      for (const story of [original, compressed])
        expect(story).toMatch(/^Once upon a time, there was a little (girl|boy)/)
      expect((await page.getByTestId('trial').locator('.small').allInnerTexts()).map(pace => parseInt(pace))).toEqual([
        60, 60,
      ])
      expect((await privateFiles(page)).map(path => path.split('/').at(-1))).toEqual(
        expect.arrayContaining(['original.gguf']),
      )
      expect((await new AxeBuilder({ page }).include('#try').analyze()).violations.map(({ id }) => id)).toEqual([])
      await both(page)
      expect([await text(page, 'original'), await text(page, 'compressed')]).toEqual([original, compressed])
      expect(requests.filter(url => new URL(url).origin !== new URL(site.url).origin)).toEqual([])
      expect(errors).toEqual([])
      await page.getByLabel('Sequences').fill('64')
      await page
        .getByRole('button', { name: 'Run the demo' })
        .or(page.getByRole('button', { name: 'Compare the layers again' }))
        .first()
        .click()
      await page.getByRole('button', { name: 'Compare the layers again' }).waitFor({ timeout: LONG })
      await expect.poll(() => privateFiles(page)).toEqual([expect.stringContaining('original.gguf')])
    },
    LONG,
  )

  test(
    'a GGUF file of this computer is read where it lies; a stop keeps what is written',
    async () => {
      const { page, errors } = await visit(site, `${ADVANCED}&device=cpu`)
      await page.getByTestId('files').setInputFiles(join('tests/data/models/gguf', 'stories260K-Q8_0.gguf'))
      await page.getByRole('button', { name: 'Compare the layers' }).click()
      await page.getByRole('button', { name: 'Compare the layers again' }).waitFor({ timeout: LONG })
      await compress(page, 1, LONG)
      await page.getByLabel('Beginning of a text').fill('Lily and Tom went to the park')
      await page.getByRole('button', { name: 'Continue with both' }).click()
      await page.getByText(/Continuing with the compressed model/).waitFor({ timeout: LONG })
      await page.getByRole('button', { name: 'Stop', exact: true }).click()
      await page.getByRole('button', { name: 'Continue with both' }).waitFor({ timeout: 30_000 })
      expect(await page.getByRole('alert').innerText()).toBe('')
      expect(await text(page, 'original')).toMatch(/^Lily and Tom went to the park.{60}/s)
      expect((await privateFiles(page)).every(path => !path.endsWith('original.gguf'))).toBe(true)
      expect(errors).toEqual([])
    },
    LONG,
  )
})

import { AxeBuilder } from '@axe-core/playwright'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ADVANCED, choosePublished, compress, findBrowser, openSite, runDemo, saved, type Site, visit } from './harness'

const browser = findBrowser()
if (!browser)
  console.warn('SKIPPED: plans whose layers are fitted, because no Chromium was found (set CHROMIUM to its path)')

describe.skipIf(!browser)('plans whose layers are fitted, with a mock engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('mock')
  })
  afterAll(() => site?.close())

  const more = (page: Page) => page.getByTestId('more-text')
  const judgeOn = async (page: Page, text: string) => {
    await page.getByText(/^Judged on .*, 32 pieces of 128 tokens$/).click()
    await page.getByLabel('Judge on').selectOption('own')
    await page.getByLabel('Text to judge on').fill(text)
    await page.getByLabel('Text to judge on').blur()
  }

  test('the recommended method is the plan, and its result is judged on a text that it was not fitted to', async () => {
    const { page, errors } = await visit(site, ADVANCED)
    await runDemo(page)
    const card = page.getByRole('radio', { name: 'Laminate, recommended' })
    expect(await card.isChecked()).toBe(true)
    await card.focus()
    await page.keyboard.press('ArrowDown')
    expect(await page.getByRole('radio', { name: 'MKA, as published' }).isChecked()).toBe(true)
    expect(await page.getByText(/^Judged on/).count()).toBe(0)
    await page.keyboard.press('ArrowUp')
    await compress(page, 7)
    expect(await page.getByTestId('judged-on').innerText()).toMatch(
      /^Judged on built-in evaluation text, which is held out: it is not the calibration text/,
    )
    expect(
      await page.getByRole('img', { name: /^Perplexity: original, 7\.31; merged, 7\.\d+; dropped, / }).count(),
    ).toBe(1)
    expect(await page.getByRole('img', { name: /^KL: original, 0\.00.nats; merged, / }).count()).toBe(1)
    expect(await page.getByTestId('elbow').count()).toBe(0)
    await page.getByText('Every merge in numbers').click()
    expect(await page.locator('#judge').innerText()).not.toMatch(/NaN|not measured|undefined/)
    expect(errors).toEqual([])
  })

  test('the text to judge on is that of the comparison; changing it makes the plan stale, and one that was calibrated on is refused', async () => {
    const { page } = await visit(site, ADVANCED)
    await runDemo(page)
    await compress(page, 4)
    await judgeOn(page, '')
    await page.getByText('Paste a text to judge on, or choose the built-in one.').waitFor()
    await page.getByLabel('Text to judge on').fill('overlap, and more of it')
    await page.getByLabel('Text to judge on').blur()
    expect(await page.getByLabel('Text to measure on').inputValue()).toBe('overlap, and more of it')
    await page.getByRole('button', { name: 'Compress again' }).click()
    await page
      .getByRole('alert')
      .getByText(/12\.4 % of pasted text was seen in calibration/)
      .waitFor()
    await page.getByLabel('Text to judge on').fill('A text of its own.')
    await page.getByLabel('Text to judge on').blur()
    await page.getByRole('button', { name: /^Compress/ }).click()
    await expect
      .poll(() =>
        page
          .getByTestId('judged-on')
          .innerText()
          .catch(() => ''),
      )
      .toMatch(/^Judged on pasted text/)
    expect(await page.getByRole('alert').innerText()).toBe('')
    await page.getByLabel('Pieces of text').first().fill('16')
    await page.getByLabel('Pieces of text').first().blur()
    await page.locator('#judge').getByText('The plan or what it rests on has changed since; compress again.').waitFor()
    await page.reload()
    await page.getByTestId('restored').waitFor()
    await page.getByText('Judged on pasted text, 32 pieces of 128 tokens').waitFor()
    expect(await page.getByRole('radio', { name: 'Laminate, recommended' }).isChecked()).toBe(true)
  })

  test('which parts of the text: a setting of the comparison, and of its report', async () => {
    const { page } = await visit(site, ADVANCED)
    await runDemo(page)
    const parts = page.getByLabel('Sample', { exact: true })
    expect(await parts.inputValue()).toBe('first')
    await parts.selectOption('at random')
    await page.locator('#calibrate').getByLabel('Seed').fill('3')
    await page.locator('#calibrate').getByLabel('Seed').press('Tab')
    await page.locator('#plan').getByText('The calibration settings have changed since').first().waitFor()
    await page.getByRole('button', { name: 'Compare the layers again' }).click()
    await page.getByRole('button', { name: 'Cancel' }).waitFor({ state: 'detached' })
    expect(JSON.parse((await saved(page, 'the similarities', 'JSON')).bytes.toString())).toMatchObject({
      options: { draw: 'random:3' },
    })
    await page.reload()
    await page.getByTestId('restored').waitFor()
    expect([await parts.inputValue(), await page.locator('#calibrate').getByLabel('Seed').inputValue()]).toEqual([
      'random',
      '3',
    ])
  })

  test('would more text help: points as they come, what they say, and every form of them', async () => {
    const { page, errors } = await visit(site, ADVANCED)
    await runDemo(page)
    await compress(page, 7)
    await more(page).getByRole('button', { name: 'Measure 4 sizes' }).press('Enter')
    await more(page)
      .getByText(/^[1-3] of 4 sizes so far/)
      .waitFor()
    await more(page).getByTestId('reading').waitFor()
    expect(await more(page).getByTestId('reading').innerText()).toBe(
      'Twice as much text lowered KL by 8.9\u00a0%; more would probably help.',
    )
    expect(
      await more(page)
        .getByRole('img', {
          name: /^KL on the held-out text by tokens of calibration: 768, .*; 1,536, .*; 3,072, .*; 6,144, /,
        })
        .count(),
    ).toBe(1)
    await more(page).getByText('Every size in numbers').click()
    expect(await more(page).locator('tbody th').allInnerTexts()).toEqual(['16', '32', '64', '128'])
    const bytes = async (format: string) => (await saved(page, 'quality against calibration size', format)).bytes
    const table = (await bytes('CSV')).toString().trim().split('\n')
    expect(table[0]).toBe('sequences,tokens,perplexity,kl,top1_agreement,collapsed,seconds')
    expect(table.slice(1).map(line => line.split(',').slice(0, 2).join(' '))).toEqual([
      '16 768',
      '32 1536',
      '64 3072',
      '128 6144',
    ])
    expect(JSON.parse((await bytes('JSON')).toString()).map((each: { tokens: number }) => each.tokens)).toEqual([
      768, 1536, 3072, 6144,
    ])
    expect((await bytes('NPY')).toString('latin1')).toContain("'shape': (4, 7)")
    expect((await bytes('SVG')).toString()).toContain('nats a token')
    await page.getByTestId('remove').fill('6')
    await expect.poll(() => more(page).getByTestId('reading').count()).toBe(0)
    expect(await more(page).getByRole('button', { name: 'Measure 4 sizes' }).isDisabled()).toBe(true)
    expect(errors).toEqual([])
  })

  test('a stop keeps the sizes that came; averages are not asked', async () => {
    const { page } = await visit(site, ADVANCED)
    await runDemo(page)
    await judgeOn(page, 'two sizes, and then a long one')
    await compress(page, 7)
    await more(page).getByRole('button', { name: 'Measure 4 sizes' }).click()
    await more(page)
      .getByText(/^2 of 4 sizes so far/)
      .waitFor()
    await more(page).getByRole('button', { name: 'Stop' }).click()
    await more(page).getByText('Stopped after 2 of 4 sizes.').waitFor()
    expect(await page.getByRole('alert').innerText()).toBe('')
    await choosePublished(page)
    await compress(page, 7)
    await page.getByTestId('elbow').waitFor()
    expect(await more(page).count()).toBe(0)
  })

  test('axe finds nothing, and nothing scrolls sideways', async () => {
    const { page } = await visit(site, ADVANCED, {
      colorScheme: 'dark',
      reducedMotion: 'reduce',
      viewport: { width: 390, height: 844 },
    })
    await runDemo(page)
    await page.getByLabel('Sample', { exact: true }).selectOption('at random')
    await page.getByLabel('Sample', { exact: true }).selectOption('from the start')
    await compress(page, 9)
    await page.getByTestId('collapsed').waitFor()
    await more(page).getByRole('button', { name: 'Measure 4 sizes' }).click()
    await more(page).getByTestId('reading').waitFor()
    for (const summary of await page.locator('#plan summary, #judge summary').all())
      if (!(await summary.evaluate(each => (each.parentElement as HTMLDetailsElement).open))) await summary.click()
    const check = async () =>
      (
        await new AxeBuilder({ page }).include('#plan').include('#judge').include('#calibrate').analyze()
      ).violations.map(v => `${v.id}: ${v.nodes.map(n => n.target).join(' ')}`)
    expect(await check()).toEqual([])
    await page.getByRole('radio', { name: 'Another method' }).check()
    expect(await check()).toEqual([])
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0)
  })
})

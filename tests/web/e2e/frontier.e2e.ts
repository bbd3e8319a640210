import { existsSync } from 'node:fs'
import { AxeBuilder } from '@axe-core/playwright'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ADVANCED, compress, ENGINE, findBrowser, openSite, runDemo, saved, type Site, visit } from './harness'

const browser = findBrowser()
if (!browser)
  console.warn(
    'SKIPPED: fewer layers or fewer bits in a browser, because no Chromium was found (set CHROMIUM to its path)',
  )
const LONG = 300_000

const panel = (page: Page) => page.locator('#compare')
const plot = (page: Page) => page.getByRole('slider', { name: 'KL against size' })
const limit = (page: Page) => page.getByRole('slider', { name: /^At most/ })
const verdict = (page: Page) => page.getByTestId('verdict-at').innerText()
const run = async (page: Page, timeout = 60_000) => {
  await panel(page)
    .getByRole('button', { name: /^Compare the methods/ })
    .click()
  await page.getByTestId('winner').waitFor({ timeout })
  await panel(page).getByRole('button', { name: 'Compare the methods again' }).waitFor({ timeout })
}
const chosen = async (page: Page, methods: string[], counts: string, types: string[]) => {
  await panel(page).getByRole('button', { name: 'None' }).click()
  for (const name of methods) await panel(page).getByRole('checkbox', { name, exact: true }).check()
  await page.getByLabel('Numbers of layers').fill(counts)
  for (const type of types) await page.getByTestId('types').getByRole('checkbox', { name: type, exact: true }).check()
}

describe.skipIf(!browser)('fewer layers or fewer bits, with a mock engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('mock')
  })
  afterAll(() => site?.close())

  const preset = async (page: Page) => {
    await runDemo(page)
    await panel(page).getByRole('button', { name: 'Fewer layers or fewer bits?' }).click()
    expect(await page.evaluate(() => document.activeElement?.textContent)).toBe('Compare the methods')
    await run(page)
  }

  test('one click chooses the comparison; who won comes first, then the plot, then the table with the original in each type', async () => {
    const { page, errors } = await visit(site, ADVANCED)
    await preset(page)
    await page
      .getByText(
        '1 method with 4 numbers of layers in 5 types: 20 models, each made and then measured on the evaluation text, and the original in each type.',
      )
      .waitFor()
    const tops = await Promise.all(
      [page.getByTestId('winner'), plot(page), page.getByTestId('comparison')].map(
        async part => (await part.boundingBox())!.y,
      ),
    )
    expect(tops).toEqual(tops.toSorted((a, b) => a - b))
    expect(await page.getByTestId('winner').innerText()).toMatch(
      /^It depends on the size: of \d sizes, the original in fewer bits is best at \d and a merged model at \d\./,
    )
    const rows = await page.getByTestId('comparison').locator('tbody tr').allInnerTexts()
    expect(rows).toHaveLength(1 + 4 + 4 * 5)
    expect(rows.filter(row => /^original\s+Q\d/.test(row))).toHaveLength(4)
    expect(await page.getByTestId('comparison').getByRole('columnheader', { name: 'type' }).count()).toBe(1)
    expect(await page.getByTestId('footing').innerText()).toContain(
      'Quantised types were encoded by importances that were collected on the calibration text.',
    )
    await page.getByText('The verdict at each size of the front').click()
    const verdicts = await page.getByTestId('verdicts').locator('li').allInnerTexts()
    expect(verdicts.length).toBeGreaterThan(3)
    for (const sentence of verdicts) expect(sentence).toMatch(/^At most [\d.]+\s[kM]B: .*\.$/)
    expect(errors).toEqual([])
  })

  test('by mouse: marks are read, the limit moves its line, and the verdict follows', async () => {
    const { page } = await visit(site, ADVANCED)
    await preset(page)
    const mark = page.locator('[data-testid=frontier] svg[role=slider] .ring').nth(1)
    await mark.scrollIntoViewIfNeeded()
    await mark.hover()
    expect(await page.getByTestId('read-out').innerText()).toMatch(/^The original in Q\w+: perplexity/)
    expect(await page.getByTestId('comparison').locator('tr.lit th').innerText()).toBe('original')
    await page.mouse.move(5, 5)
    await expect.poll(() => page.getByTestId('read-out').innerText()).toMatch(/^Point at a mark/)
    await page.getByTestId('comparison').locator('tbody tr', { hasText: 'Q3_K_M' }).nth(1).hover()
    expect(await page.getByTestId('read-out').innerText()).toMatch(/^Laminate with 1 removed in Q3_K_M/)
    const line = () =>
      page.locator('[data-testid=frontier] .limit[x1]').evaluate(each => Number(each.getAttribute('x1')))
    const [before, said] = [await line(), await verdict(page)]
    await limit(page).fill((await limit(page).getAttribute('min')) ?? '')
    expect(await line()).toBeLessThan(before)
    expect(await verdict(page)).not.toBe(said)
    expect(await verdict(page)).toMatch(/^(No model is that small; the smallest is|Only merged models are that small)/)
    await limit(page).fill((await limit(page).getAttribute('max')) ?? '')
    expect(await verdict(page)).toMatch(/^The original \(1\.16\sMB, KL 0\) is better than .*: merging does not pay\.$/)
  })

  test('by keyboard: the limit, the marks from the smallest on, and the headings', async () => {
    const { page } = await visit(site, ADVANCED)
    await preset(page)
    // A mouse that lies where the plot comes to stand would read marks too.
    await page.mouse.move(5, 5)
    await limit(page).focus()
    const size = await limit(page).getAttribute('aria-valuetext')
    for (let i = 0; i < 40; i++) await page.keyboard.press('ArrowLeft')
    expect(await limit(page).getAttribute('aria-valuetext')).not.toBe(size)
    await page.keyboard.press('Home')
    expect(await verdict(page)).toMatch(/that small/)
    await page.keyboard.press('Tab')
    expect(await page.evaluate(() => document.activeElement?.getAttribute('aria-label'))).toBe('KL against size')
    await page.keyboard.press('Home')
    expect(await plot(page).getAttribute('aria-valuetext')).toMatch(/^Laminate with 4 removed in Q2_K: perplexity/)
    await page.keyboard.press('End')
    expect(await plot(page).getAttribute('aria-valuetext')).toMatch(/^Laminate with 1 removed: perplexity/)
    for (let i = 0; i < 6; i++) await page.keyboard.press('ArrowLeft')
    expect(await page.getByTestId('read-out').innerText()).toBe(
      `${(await plot(page).getAttribute('aria-valuetext'))!.replace(/^the/, 'The')}.`,
    )
    await page.keyboard.press('Escape')
    expect(await plot(page).getAttribute('aria-valuetext')).toBe('no model chosen; arrow keys choose one')
    const heading = page.getByTestId('comparison').getByRole('columnheader', { name: 'type' })
    await heading.getByRole('button').press('Enter')
    expect(await heading.getAttribute('aria-sort')).toBe('ascending')
  })

  test('by touch: a mark stays read until another is touched', async () => {
    const { page } = await visit(site, ADVANCED, { hasTouch: true, viewport: { width: 390, height: 844 } })
    await preset(page)
    const at = async (n: number) => {
      const mark = page.locator('[data-testid=frontier] svg[role=slider] .ring').nth(n)
      await mark.scrollIntoViewIfNeeded()
      const box = (await mark.boundingBox())!
      await page.touchscreen.tap(box.x + 5, box.y + 5)
    }
    await at(1)
    const first = await page.getByTestId('read-out').innerText()
    expect(first).toMatch(/^The original in/)
    await at(4)
    expect(await page.getByTestId('read-out').innerText()).toMatch(/^The original in Q2_K/)
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0)
  })

  test('files carry types, the original in them, the verdicts and what was encoded by', async () => {
    const { page } = await visit(site, ADVANCED)
    await preset(page)
    const text = async (format: string) => (await saved(page, 'the comparison', format)).bytes.toString()
    const csv = (await text('CSV')).trimEnd().split('\n')
    expect(csv).toHaveLength(1 + 1 + 4 + 20)
    expect(csv[0]).toMatch(/,dtype,imatrix,prompt_per_second,/)
    expect(csv.filter(line => /^original,.*,q8_0,,,,$/.test(line))).toHaveLength(1)
    const json = JSON.parse(await text('JSON'))
    expect([
      json.originals.length,
      json.rows[19].dtype,
      json.verdicts.length > 3,
      json.rows[0].kl_by_sequence.length,
    ]).toEqual([4, 'q2_k', true, 32])
    expect(await text('Markdown')).toMatch(/\| original \| Q4_K_M \| 0 \|[^]*It depends on the size/)
    const picture = await text('SVG')
    expect(picture).toContain('KL in nats a token, logarithmic scale')
    expect(picture).toContain('at most')
    expect(picture).not.toMatch(/var\(|light-dark|currentColor|tabindex/)
    // What was saved opens again, with the plot and its limit.
    await page
      .getByTestId('files')
      .setInputFiles({ name: 'compare.json', mimeType: 'application/json', buffer: Buffer.from(JSON.stringify(json)) })
    await page.getByText('A stored result, opened from').waitFor()
    expect(await page.getByTestId('winner').innerText()).toMatch(/^It depends on the size/)
    await limit(page).press('End')
    expect(await verdict(page)).toMatch(/^The original \(1\.16\sMB, KL 0\) is better/)
  })

  test('the report has the verdicts and the plot; a line becomes the plan with its type', async () => {
    const { page } = await visit(site, ADVANCED)
    await preset(page)
    await page.getByRole('button', { name: 'Plan with Laminate, 2 removed in Q4_K_M' }).click()
    expect(await page.getByTestId('remove').inputValue()).toBe('2')
    await compress(page, 2)
    expect(await page.getByLabel('Number type').inputValue()).toBe('q4_k_m')
    expect(await page.getByLabel('Format').inputValue()).toBe('gguf')
    expect(await page.getByTestId('unmeasured').count()).toBe(0)
  })

  test('no type is no comparison; one that is its own is one as before', async () => {
    const { page } = await visit(site, ADVANCED)
    await runDemo(page)
    const types = page.getByTestId('types')
    await types.getByRole('checkbox', { name: 'As it is (F16)' }).uncheck()
    await panel(page).getByText('Choose at least one number type.').waitFor()
    expect(await page.getByTestId('importances').count()).toBe(0)
    await types.getByRole('checkbox', { name: 'Q8_0', exact: true }).check()
    expect(await panel(page).getByTestId('importances').count()).toBe(1)
    await types.getByRole('checkbox', { name: 'Q8_0', exact: true }).uncheck()
    await types.getByRole('checkbox', { name: 'As it is (F16)' }).check()
    await panel(page).getByRole('button', { name: 'Compare the methods' }).click()
    await page.getByRole('slider', { name: 'Quality against size, by method' }).waitFor()
    expect([
      await page.getByTestId('winner').count(),
      await page.getByTestId('comparison').getByRole('columnheader', { name: 'type' }).count(),
    ]).toEqual([0, 0])
  })

  describe.each(['light', 'dark'] as const)('%s', colorScheme => {
    test('axe finds nothing', async () => {
      const { page } = await visit(site, ADVANCED, { colorScheme, reducedMotion: 'reduce' })
      await runDemo(page)
      await chosen(page, ['Laminate', 'MKA, published code', 'LaCo'], '2, 6', ['Q8_0', 'Q3_K_S'])
      await run(page)
      await plot(page).press('End')
      await page.getByText('The verdict at each size of the front').click()
      expect(
        (await new AxeBuilder({ page }).include('#compare').analyze()).violations.map(
          v => `${v.id}: ${v.nodes.map(n => n.target).join(' ')}`,
        ),
      ).toEqual([])
    })
    test.each([1440, 1280, 390, 320])('nothing scrolls sideways at %d px', async width => {
      const { page } = await visit(site, ADVANCED, { colorScheme, viewport: { width, height: 720 } })
      await preset(page)
      expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0)
    })
  })
})

describe.skipIf(!browser || !existsSync(ENGINE))('fewer layers or fewer bits, with the compiled engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('real')
  })
  afterAll(() => site?.close())

  test(
    'the demo in two types: the page says at each size what the engine says',
    async () => {
      const { page, errors } = await visit(site, `${ADVANCED}&device=cpu`)
      await runDemo(page, LONG)
      await chosen(page, ['ShortGPT'], '2, 6', ['Q8_0', 'Q4_0'])
      await panel(page).getByLabel('Pieces of text').fill('12')
      await page.getByTestId('compare-estimate').waitFor({ timeout: LONG })
      await run(page, LONG)
      expect(await page.getByTestId('winner').innerText()).toMatch(/\.$/)
      const { bytes } = await saved(page, 'the comparison', 'JSON')
      const report = JSON.parse(bytes.toString())
      expect(report.originals.map((each: { dtype: string }) => each.dtype)).toEqual(['q8_0', 'q4_0'])
      expect(report.rows.map((each: { dtype: string }) => each.dtype)).toEqual([
        'keep',
        'keep',
        'q8_0',
        'q8_0',
        'q4_0',
        'q4_0',
      ])
      await page.getByText('The verdict at each size of the front').click()
      const said = (await page.getByTestId('verdicts').locator('li').allInnerTexts()).map(each =>
        each.replaceAll('\u00a0', ' '),
      )
      expect(said).toHaveLength(report.verdicts.length)
      const kind = (sentence: string) =>
        ['merging does not pay', 'is better than', 'equally good', 'only merged', 'no merged'].find(words =>
          sentence.toLowerCase().includes(words),
        )
      expect(said.map(kind)).toEqual(report.verdicts.map((each: { sentence: string }) => kind(each.sentence)))
      expect(errors).toEqual([])
    },
    LONG,
  )
})

import { AxeBuilder } from '@axe-core/playwright'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ADVANCED, choosePublished, compress, findBrowser, openSite, runDemo, saved, type Site, visit } from './harness'

const browser = findBrowser()
if (!browser)
  console.warn(
    'SKIPPED: the comparison of methods in a browser, because no Chromium was found (set CHROMIUM to its path)',
  )

describe.skipIf(!browser)('the comparison of methods, with a mock engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('mock')
  })
  afterAll(() => site?.close())

  const panel = (page: Page) => page.locator('#compare')
  const names = (page: Page) => page.getByTestId('comparison').locator('tbody th').allInnerTexts()
  const choose = async (page: Page, methods: string[], counts: string) => {
    await panel(page).getByRole('button', { name: 'None' }).click()
    for (const name of methods) await panel(page).getByRole('checkbox', { name, exact: true }).check()
    await page.getByLabel('Numbers of layers').fill(counts)
  }
  const run = async (page: Page) => {
    await panel(page)
      .getByRole('button', { name: /^Compare the methods/ })
      .click()
    await panel(page).getByRole('button', { name: 'Compare the methods again' }).waitFor()
    await page
      .getByTestId('footing')
      .getByText(/tokens scored/)
      .waitFor()
  }
  const savedAs = async (page: Page, format: string) => {
    const { name, bytes } = await saved(page, 'the comparison', format)
    return { name, text: bytes.toString() }
  }

  test('is there once there is a model to compare them on', async () => {
    const { page } = await visit(site, ADVANCED)
    await page.getByRole('button', { name: 'Run the demo' }).waitFor()
    expect(await panel(page).count()).toBe(0)
    await runDemo(page)
    expect(await panel(page).getByRole('group', { name: 'Methods to compare' }).getByRole('checkbox').count()).toBe(13)
    await page.getByText('Drops the layers that turn the residual stream least').waitFor()
  })

  test('a table in the order of the ticks, with collapses, failures and what was measured on', async () => {
    const { page, errors } = await visit(site, ADVANCED)
    await runDemo(page)
    await choose(page, ['FlattenGPT', 'MKA, published code', 'MKA'], '6, 2')
    await page.getByText('3 methods with 2 numbers of layers: 6 models').waitFor()
    await page.getByText('in the order in which you ticked them: FlattenGPT, MKA, published code, MKA.').waitFor()
    await run(page)
    expect((await names(page)).map(name => name.replace(/\s+/g, ' ').trim())).toEqual([
      'original',
      'FlattenGPT',
      'FlattenGPT',
      'MKA, published code collapsed',
      'MKA, published code',
      'MKA',
      'MKA',
    ])
    expect(await page.getByTestId('comparison').getByText('6 disjoint pairs do not fit into 12 layers').count()).toBe(1)
    expect(await page.getByTestId('collapses').innerText()).toContain('1 of 6 models has collapsed')
    expect(await page.getByTestId('failures').innerText()).toContain('1 of 6 models could not be made')
    expect(await page.getByTestId('footing').innerText()).toMatch(
      /Measured on built-in evaluation text \(32 sequences of 128 tokens\), 4,064 tokens scored\.\s+Calibrated on .*Seed 0\./,
    )
    await expect
      .poll(() => panel(page).getByRole('status').first().innerText())
      .toBe('6 models compared, 1 collapsed, 1 failed.')
    expect(await page.getByTestId('overlap').count()).toBe(0)
    expect(errors).toEqual([])
  })

  test('by keyboard: from the plan to the plot and the headings', async () => {
    const { page } = await visit(site, ADVANCED)
    await runDemo(page)
    await page.getByRole('link', { name: 'Compare methods on this model' }).focus()
    await page.keyboard.press('Enter')
    await page.keyboard.press('Tab')
    expect(await page.evaluate(() => document.activeElement?.textContent)).toBe('Fewer layers or fewer bits?')
    await page.keyboard.press('Tab')
    expect(await page.evaluate(() => document.activeElement?.textContent)).toBe('All')
    await panel(page).getByRole('button', { name: 'None' }).press('Enter')
    for (const name of ['MKA', 'LaCo']) await panel(page).getByRole('checkbox', { name, exact: true }).press('Space')
    const counts = page.getByLabel('Numbers of layers')
    await counts.fill('2, 12')
    expect(await counts.getAttribute('aria-invalid')).toBe('true')
    expect(await panel(page).getByRole('button', { name: 'Compare the methods' }).isDisabled()).toBe(true)
    await page.getByText('12 of 12 layers cannot be removed: from 1 to 11 can.').first().waitFor()
    await counts.fill('2, 4')
    await counts.press('Enter')
    await panel(page).getByRole('button', { name: 'Compare the methods again' }).waitFor()
    const plot = page.getByRole('slider', { name: 'Quality against size, by method' })
    await plot.focus()
    for (const key of ['ArrowRight', 'ArrowRight', 'ArrowRight']) await page.keyboard.press(key)
    expect(await plot.getAttribute('aria-valuetext')).toMatch(
      /^LaCo with 2 removed: perplexity [\d.]+ \(original 7.31\), KL/,
    )
    expect(await page.getByTestId('read-out').innerText()).toMatch(/^LaCo with 2 removed/)
    const heading = page.getByTestId('comparison').getByRole('columnheader', { name: 'perplexity' })
    expect(await heading.getAttribute('aria-sort')).toBe('none')
    const rows = async () =>
      (await names(page))
        .slice(1)
        .map(name => name.trim())
        .join(' ')
    for (const [sort, order] of [
      ['ascending', 'MKA LaCo MKA LaCo'],
      ['descending', 'LaCo MKA LaCo MKA'],
      ['none', 'MKA MKA LaCo LaCo'],
    ]) {
      await heading.getByRole('button').press('Enter')
      expect(await heading.getAttribute('aria-sort')).toBe(sort)
      expect(await rows()).toBe(order)
    }
  })

  test('headings end where their figures do', async () => {
    const { page } = await visit(site, ADVANCED)
    await runDemo(page)
    await page.getByRole('button', { name: 'Compare the methods' }).click()
    await page.getByRole('button', { name: 'Compare the methods again' }).waitFor()
    const ends = () =>
      page.getByTestId('comparison').evaluate(table => {
        const right = (cell: Element) => {
          const text = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT).nextNode()!
          const range = document.createRange()
          range.selectNode(text)
          return Math.round(range.getBoundingClientRect().right)
        }
        const [head, row] = [
          table.querySelector('thead tr')!,
          table.querySelector('tbody tr:not(.reference, .failed)')!,
        ]
        return [1, 2, 3, 4, 5, 6].map(column => [right(head.children[column]!), right(row.children[column]!)])
      })
    for (const [head, figure] of await ends()) expect(Math.abs(head! - figure!)).toBeLessThanOrEqual(1)
    await page.getByRole('button', { name: 'KL' }).last().click()
    for (const [head, figure] of await ends()) expect(Math.abs(head! - figure!)).toBeLessThanOrEqual(1)
  })

  test('the caption of the merges says what their similarities are, as the plan does', async () => {
    const { page } = await visit(site, ADVANCED)
    await runDemo(page)
    await page.locator('#plan').getByText('One pass: the plan is made from these numbers alone.').waitFor()
    await compress(page, 3)
    expect(await page.locator('#compress figcaption').innerText()).toContain(
      'each row below is one merge, with the similarity of the two neighbours in the original model.',
    )
    await page.locator('#plan').getByText('each merge of the plan').waitFor()
    await choosePublished(page)
    await compress(page, 2)
    expect(await page.locator('#compress figcaption').innerText()).toContain(
      'in the order they were made, with the similarity of the two at that moment.',
    )
    await page.locator('#plan').getByText('each merge when it was made').waitFor()
  })

  test('a stop keeps the rows that are done', async () => {
    const { page } = await visit(site, ADVANCED)
    await runDemo(page)
    await panel(page).getByRole('button', { name: 'All', exact: true }).click()
    await page.getByLabel('Numbers of layers').fill('1 2 3 4 5')
    await panel(page).getByRole('button', { name: 'Compare the methods' }).click()
    await page
      .getByTestId('so-far')
      .getByText(/^[3-9] of 65 models so far/)
      .waitFor()
    await panel(page).getByRole('button', { name: 'Stop' }).click()
    await page.getByText(/^Stopped before the end: \d+ of 65 models\.$/).waitFor()
    expect(await page.getByTestId('comparison').locator('tbody tr').count()).toBeGreaterThan(3)
    expect(await page.getByRole('alert').innerText()).toBe('')
  })

  test('an evaluation text that was calibrated on is warned of; other settings make the table stale', async () => {
    const { page } = await visit(site, ADVANCED)
    await runDemo(page)
    await choose(page, ['MKA'], '2')
    await page.getByLabel('Evaluation text').selectOption('own')
    await page.getByText('Paste a text to measure on, or choose the built-in one.').waitFor()
    await page.getByLabel('Text to measure on').fill('overlap, and more')
    await page.getByLabel('Text to measure on').blur()
    await run(page)
    expect(await page.getByTestId('overlap').innerText()).toMatch(/12\s% of its tokens were seen in calibration/)
    expect(await page.getByTestId('footing').innerText()).toContain('Measured on pasted text')
    await page.getByLabel('Numbers of layers').fill('3')
    await page.getByText('Compared with other settings than those chosen now; compare again.').waitFor()
  })

  test('files: CSV, JSON, Markdown and the picture', async () => {
    const { page } = await visit(site, ADVANCED)
    await runDemo(page)
    await choose(page, ['LaCo', 'MKA, published code'], '2, 6')
    await run(page)
    const csv = await savedAs(page, 'CSV')
    expect(csv.name).toBe('compare.csv')
    expect(csv.text.split('\n').map(line => line.split(',')[0])).toEqual([
      'method',
      'original',
      'laco',
      'laco',
      'mka-code',
      'mka-code',
      '',
    ])
    const json = await savedAs(page, 'JSON')
    expect([json.name, JSON.parse(json.text).rows.length]).toEqual(['compare.json', 4])
    const markdown = await savedAs(page, 'Markdown')
    expect(markdown.name).toBe('compare.md')
    expect(markdown.text).toMatch(/\| MKA, published code \| 6 \|.*\*\*collapsed\*\*/)
    const picture = await savedAs(page, 'SVG')
    expect(picture.name).toBe('compare.svg')
    expect(picture.text).toMatch(/^<svg [^>]*xmlns="http:\/\/www.w3.org\/2000\/svg"/)
    expect(picture.text).toContain('Above the scale: MKA, published code with 6 removed')
    expect(picture.text).not.toMatch(/var\(|light-dark|currentColor|tabindex/)
  })

  test('a line becomes the plan', async () => {
    const { page } = await visit(site, ADVANCED)
    await runDemo(page)
    await choose(page, ['Laminate'], '4')
    await run(page)
    await page.getByRole('button', { name: 'Plan with Laminate, 4 removed' }).click()
    expect(await page.getByRole('radio', { name: 'Laminate, recommended' }).isChecked()).toBe(true)
    expect(await page.getByTestId('remove').inputValue()).toBe('4')
    expect(await page.evaluate(() => document.activeElement?.getAttribute('data-testid'))).toBe('remove')
    await compress(page, 4)
    expect(await page.getByTestId('groups').innerText()).toContain('pooled and refitted')
  })

  test("the method of a plan: by name, or as a pair of one's own", async () => {
    const { page } = await visit(site, ADVANCED)
    await runDemo(page)
    const plan = page.locator('#plan')
    const method = plan.getByRole('combobox', { name: 'Method', exact: true })
    expect(await plan.getByRole('radio', { name: 'Laminate, recommended' }).isChecked()).toBe(true)
    expect([
      await plan.getByLabel('Longest run').inputValue(),
      await plan.getByLabel('Weights').count(),
      await method.count(),
    ]).toEqual(['4', 0, 0])
    await plan.getByLabel('Stop below a similarity').check()
    await choosePublished(page)
    expect([await plan.getByLabel('Weights').count(), await plan.getByLabel('Longest run').inputValue()]).toEqual([
      1,
      '',
    ])
    expect(await plan.getByLabel('Stop below a similarity').isChecked()).toBe(true)
    await plan.getByRole('radio', { name: 'Another method' }).check()
    expect(await method.inputValue()).toBe('laminate-search')
    expect(await plan.getByLabel('Layers tried').inputValue()).toBe('10')
    await method.selectOption('ShortGPT')
    expect([
      await plan.getByLabel('Weights').count(),
      await plan.getByLabel('Stop below a similarity').count(),
    ]).toEqual([0, 0])
    expect(await page.getByTestId('remove').inputValue()).toBe('3')
    await plan.getByText('This method does not go by these similarities').waitFor()
    await plan.getByLabel('What becomes of them').selectOption('refitted')
    expect(await method.inputValue()).toBe('')
    await plan.getByText('A pair of your own').waitFor()
    await plan.getByLabel('Which layers').selectOption('random')
    await plan.getByLabel('Seed').fill('7')
    await choosePublished(page)
    expect(await plan.getByLabel('Weights').count()).toBe(1)
  })

  test('the elbow of a plan that went too far', async () => {
    const { page } = await visit(site, ADVANCED)
    await runDemo(page)
    await choosePublished(page)
    await compress(page, 9)
    expect(await page.getByRole('img', { name: /^KL by layers removed: 0, 0.00.nats; 1, / }).count()).toBe(1)
    expect(await page.getByTestId('elbow').innerText()).toMatch(
      /The elbow is at 7 removed: KL 0.049\snats a token, 520\skB; one more takes it to 2.11\snats\./,
    )
    await page.getByRole('button', { name: 'Plan with 7 removed' }).click()
    expect(await page.getByTestId('remove').inputValue()).toBe('7')
    await page.getByRole('button', { name: 'Compress again' }).click()
    await expect.poll(() => page.getByTestId('elbow').innerText()).toMatch(/^No elbow among these 7/)
  })

  describe.each(['light', 'dark'] as const)('%s', colorScheme => {
    test('axe finds nothing', async () => {
      const { page } = await visit(site, ADVANCED, { colorScheme, reducedMotion: 'reduce' })
      await runDemo(page)
      await compress(page, 9)
      await choose(page, ['MKA', 'MKA, published code', 'FlattenGPT'], '2, 6')
      const check = async () =>
        (
          await new AxeBuilder({ page }).include('#plan').include('#judge').include('#compare').analyze()
        ).violations.map(v => `${v.id}: ${v.nodes.map(n => n.target).join(' ')}`)
      await run(page)
      await page.getByRole('slider', { name: 'Quality against size, by method' }).press('End')
      expect(await check()).toEqual([])
      await page.getByLabel('Numbers of layers').fill('x')
      expect(await check()).toEqual([])
    })
    test.each([1440, 1024, 390])('nothing scrolls sideways at %d px', async width => {
      const { page } = await visit(site, ADVANCED, { colorScheme, viewport: { width, height: 844 } })
      await runDemo(page)
      await panel(page).getByRole('button', { name: 'All', exact: true }).click()
      await page.getByLabel('Numbers of layers').fill('2, 4, 6')
      await run(page)
      expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0)
    })
  })
})

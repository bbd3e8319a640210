import { AxeBuilder } from '@axe-core/playwright'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { SCREENS, type ScreenId } from '../../../www/words/screens'
import { stored } from '../stored'
import { findBrowser, openSite, runDemo, visit, type Site } from './harness'

const browser = findBrowser()
if (!browser)
  console.warn('SKIPPED: the guided walk in a browser, because no Chromium was found (set CHROMIUM to its path)')

const titleOf = (id: ScreenId) => SCREENS.find(screen => screen.id === id)!.title
const arrived = (page: Page, id: ScreenId) => page.getByRole('heading', { name: titleOf(id), exact: true }).waitFor()

describe.skipIf(!browser)('the guided walk', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('mock')
  })
  afterAll(() => site?.close())

  test('from the masthead through all screens by keyboard alone, and back to where one was', async () => {
    const { page, errors } = await visit(site)
    await page.getByText('Stored result; run it live.').waitFor()
    // By the page itself; what keeps it for later fetches everything, in its own time.
    const fetched = await page.evaluate(() => performance.getEntriesByType('resource').map(each => each.name))
    expect(fetched.filter(url => /demo-points|Walk-/.test(url))).toEqual([])
    await page.getByRole('link', { name: 'How it works' }).focus()
    await page.keyboard.press('Enter')
    for (const { id } of SCREENS) {
      await arrived(page, id)
      expect(new URL(page.url()).hash).toBe(id === 'stream' ? '#walk' : `#walk/${id}`)
      expect(await page.evaluate(() => document.activeElement?.textContent)).toBe(titleOf(id))
      expect(await page.locator('math').count()).toBeGreaterThan(id === 'guess' ? -1 : 0)
      await page.keyboard.press('ArrowRight')
    }
    await page.keyboard.press('ArrowLeft')
    await arrived(page, 'fit')
    await page.keyboard.press('Escape')
    await page.getByRole('dialog').waitFor({ state: 'detached' })
    expect(new URL(page.url()).hash).toBe('')
    expect(await page.evaluate(() => document.activeElement?.textContent)).toBe('How it works')
    expect(errors).toEqual([])
  })

  test.each([
    [1280, 720],
    [1366, 768],
    [1920, 1080],
  ])('each step fits a window of %i x %i, and a remote turns to the next', async (width, height) => {
    const { page } = await visit(site, '#walk', { viewport: { width, height }, reducedMotion: 'reduce' })
    for (const { id } of SCREENS) {
      await arrived(page, id)
      await expect
        .poll(() => page.locator('dialog').evaluate(dialog => dialog.scrollHeight - dialog.clientHeight), {
          message: id,
        })
        .toBeLessThanOrEqual(0)
      await page.keyboard.press('PageDown')
    }
  })

  describe('a link opens the walk at a state', () => {
    const value = (page: Page, name: string) => page.getByRole('slider', { name, exact: true }).inputValue()

    test('what was set is copied, and is there again in another browser', async () => {
      const { page } = await visit(site, '#walk/two-maps', { permissions: ['clipboard-read', 'clipboard-write'] })
      await arrived(page, 'two-maps')
      await page.getByRole('slider', { name: 'Left layer' }).fill('2')
      await page.getByRole('slider', { name: 'Right layer' }).fill('9')
      await page.getByRole('slider', { name: 'Bandwidth ε' }).fill('8')
      await page.getByLabel('Turn the right map onto the left').uncheck()
      await page.getByRole('button', { name: 'Copy link to this picture' }).click()
      await page.getByText('Copied the link').waitFor()
      const link = await page.evaluate(() => navigator.clipboard.readText())
      expect(new URL(link).hash).toBe('#walk/two-maps?layer=2&other=9&bandwidth=8&turned=0')
      const other = await visit(site, new URL(link).hash)
      await arrived(other.page, 'two-maps')
      expect(
        await Promise.all(['Left layer', 'Right layer', 'Bandwidth ε'].map(name => value(other.page, name))),
      ).toEqual(['2', '9', '8'])
      expect(await other.page.getByLabel('Turn the right map onto the left').isChecked()).toBe(false)
      // Turning the page leaves the values, and the address names the step.
      await other.page.keyboard.press('Escape')
      await other.page.getByRole('dialog').waitFor({ state: 'detached' })
      expect(new URL(other.page.url()).hash).toBe('')
      // A link that is followed while the walk is open.
      await page.evaluate(() => {
        location.hash = '#walk/guess?guess=1.3.5'
      })
      await arrived(page, 'guess')
      expect(await page.locator('.layers [aria-pressed=true] b').allInnerTexts()).toEqual(['1', '3', '5'])
    })

    test('numbers out of range, other words and other steps do no harm', async () => {
      const { page, errors } = await visit(
        site,
        '#walk/map?layer=999&bandwidth=-5&one=1e3&two=NaN&time=%3Cb%3E&other&x=1&layer=3#?%E0%A4%A',
      )
      await arrived(page, 'map')
      expect(await Promise.all(['Layer', 'Bandwidth ε', 'Time t'].map(name => value(page, name)))).toEqual([
        '11',
        '0',
        '1',
      ])
      expect(await page.locator('dialog .choice.one select').inputValue()).toBe('7')
      await page.evaluate(() => {
        location.hash = '#walk/nowhere?layer=2'
      })
      await arrived(page, 'stream')
      expect(await value(page, 'Layer')).toBe('2')
      for (const [fragment, id] of [
        ['#walk/guess?guess=3.3.99.-1.x.5', 'guess'],
        ['#walk/kinds?kinds=7.1.2', 'kinds'],
        ['#walk/kinds?kinds=0.999.1', 'kinds'],
        ['#walk/cost?measure=__proto__&removed=0', 'cost'],
        ['#walk/merge?alpha=7&merge=1e9', 'merge'],
      ] as const) {
        await page.evaluate(fragment => {
          location.hash = fragment
        }, fragment)
        await arrived(page, id)
        if (id === 'guess')
          expect(await page.locator('.layers [aria-pressed=true] b').allInnerTexts()).toEqual(['3', '5'])
      }
      expect(await value(page, 'Weight α of the first')).toBe('1')
      expect(errors).toEqual([])
    })
  })

  test('a link opens one screen; the browser goes back; a term of art leads there', async () => {
    const { page } = await visit(site, '#walk/kernel', { reducedMotion: 'reduce' })
    await arrived(page, 'kernel')
    await page.getByRole('button', { name: 'Back to the page' }).click()
    await runDemo(page)
    // It comes a moment after the run, and is higher than the button beside it.
    await page.getByTestId('estimate').waitFor()
    const term = page.getByRole('button', { name: 'Similarity', exact: true }).first()
    await term.focus()
    await page.keyboard.press('Tab')
    expect(await page.evaluate(() => document.activeElement?.textContent)).toBe('See it in the walk')
    const place = () => term.evaluate(word => Math.round(word.getBoundingClientRect().top))
    const left = await place()
    expect(await page.evaluate(() => scrollY)).toBeGreaterThan(0)
    await page.keyboard.press('Enter')
    await arrived(page, 'cell')
    await page.goBack()
    await page.getByRole('dialog').waitFor({ state: 'detached' })
    // The browser scrolls back in its own time.
    await expect.poll(place, { timeout: 5000 }).toBe(left)
    expect(await page.evaluate(() => document.activeElement?.textContent)).toBe('Similarity')
  })

  test('offline once it was opened: every screen, and the numbers that the page has', async () => {
    const { page, requests } = await visit(site, '#walk')
    await arrived(page, 'stream')
    await page.waitForLoadState('networkidle')
    const before = requests.length
    await page.context().setOffline(true)
    const turn = async (id: ScreenId) => {
      await page
        .getByRole('navigation', { name: 'Steps of the walk' })
        .getByRole('link')
        .nth(SCREENS.findIndex(screen => screen.id === id))
        .click()
      await arrived(page, id)
    }
    await turn('distance')
    await page.getByText('this pair').waitFor()
    await turn('cell')
    await page
      .locator('dialog')
      .getByRole('gridcell', { name: /^layers 10 and 11: similarity/ })
      .first()
      .waitFor()
    await page
      .locator('dialog')
      .getByRole('gridcell', { name: /^layers 1 and 2: similarity/ })
      .first()
      .click()
    const said = Number(/([\d.]+)$/.exec((await page.locator('.value').innerText()).trim())![1])
    expect(Math.abs(said - stored.similarity[2]![1]!)).toBeLessThan(0.006)
    expect(requests.slice(before).filter(url => !/assets\/icon/.test(url))).toEqual([])
  })

  test('what is changed moves the picture: bandwidth, time, layers, alpha', async () => {
    const { page } = await visit(site, '#walk/kernel')
    const bandwidth = page.getByRole('slider', { name: 'Bandwidth ε' })
    await bandwidth.focus()
    await page.keyboard.press('Home')
    await page.getByText('It is nearly alone.').waitFor()
    await page.evaluate(() => {
      location.hash = '#walk/map'
    })
    await page.getByText('nearly disconnected').waitFor()
    await page.getByRole('slider', { name: 'Bandwidth ε' }).press('End')
    await page.getByText('nearly disconnected').waitFor({ state: 'detached' })
    await page.evaluate(() => {
      location.hash = '#walk/merge'
    })
    await page.getByRole('slider', { name: 'Merge', exact: true }).press('Home')
    expect(await page.getByRole('img', { name: /\[2 3\]/ }).count()).toBe(1)
    await page.getByRole('slider', { name: /Weight α/ }).press('Home')
    await page.getByText('0.00 of this').waitFor()
  })

  describe('points travel from layer to layer', () => {
    const dots = (page: Page, picture = 0) =>
      page
        .locator('dialog .picture svg')
        .nth(picture)
        .locator('circle.dot')
        .evaluateAll(all =>
          all.map(each => [Number(each.getAttribute('cx')), Number(each.getAttribute('cy'))] as const),
        )
    type Dots = Awaited<ReturnType<typeof dots>>
    const apart = (one: Dots, other: Dots) =>
      Math.max(...one.map(([x, y], i) => Math.hypot(x - other[i]![0], y - other[i]![1])))
    /** Opens a screen whose time stands still but for `runFor`. */
    const opened = async (id: ScreenId) => {
      const { page } = await visit(site)
      await page.clock.install()
      await page.evaluate(id => {
        location.hash = `#walk/${id}`
      }, id)
      await arrived(page, id)
      await page.clock.pauseAt(await page.evaluate(() => Date.now() + 1000))
      const slide = (name: string, to: number) => page.getByRole('slider', { name, exact: true }).fill(String(to))
      return { page, slide, after: (ms: number, picture = 0) => page.clock.runFor(ms).then(() => dots(page, picture)) }
    }

    test.each([
      ['map', 'Layer', 8, 0],
      ['two-maps', 'Right layer', 10, 1],
      ['kernel', 'Bandwidth ε', 9, 0],
      ['information', 'Right layer', 0, 2],
    ] as const)('%s: halfway they lie between, and they arrive', async (id, slider, to, picture) => {
      const { page, slide, after } = await opened(id)
      const begun = await dots(page, picture)
      await slide(slider, to)
      const places = [begun]
      for (let i = 0; i < 6; i++) places.push(await after(64, picture))
      const end = places.at(-1)!
      expect(apart(begun, end)).toBeGreaterThan(20)
      // Points go all the way in less than the 384 ms, and each look finds them nearer to the end.
      const left = places.map(each => apart(each, end))
      expect(left[2]).toBeGreaterThan(1)
      expect(left[2]).toBeLessThan(left[1]!)
      expect(left[1]).toBeLessThan(left[0]!)
      expect(left[5]).toBe(0)
    })

    test('a move that is interrupted goes on from where the points are', async () => {
      const { page, slide, after } = await opened('map')
      const begun = await dots(page)
      await slide('Layer', 8)
      const halfway = await after(96)
      expect(apart(halfway, begun)).toBeGreaterThan(5)
      await slide('Layer', 4)
      // The first frame of the way back is near where the points were, not at either end.
      const back = await after(32)
      expect(apart(back, halfway)).toBeLessThan(0.5 * apart(halfway, begun))
      expect(apart(back, begun)).toBeGreaterThan(1)
      expect(apart(await after(400), begun)).toBeLessThan(1e-6)
    })

    test('with reduced motion they are there at once', async () => {
      const { page } = await visit(site, '#walk/map', { reducedMotion: 'reduce' })
      await arrived(page, 'map')
      await page.clock.install()
      await page.clock.pauseAt(await page.evaluate(() => Date.now() + 1000))
      const begun = await dots(page)
      await page.getByRole('slider', { name: 'Layer', exact: true }).fill('8')
      const moved = await dots(page)
      expect(apart(begun, moved)).toBeGreaterThan(20)
      await page.clock.runFor(500)
      expect(apart(await dots(page), moved)).toBe(0)
    })
  })

  test('the corners of the weights have the colours that their caption names', async () => {
    const { page } = await visit(site, '#walk/merge')
    await page.getByRole('img', { name: 'Weights of the merged layer' }).waitFor()
    const said = page.locator('dialog .read')
    const [, positive, negative] = /; (\w+) is positive, (\w+) negative/.exec(await said.innerText())!
    const corner = page.getByRole('img', { name: 'Weights of the merged layer' }).locator('rect[role=presentation]')
    // The strongest squares of both colours: orange has more red than blue, purple more blue than red.
    const leans = await corner.evaluateAll(rects =>
      rects.map(rect => {
        const [red, , blue] = rect.getAttribute('fill')!.match(/\d+/g)!.map(Number)
        return red! - blue!
      }),
    )
    for (const [hue, lean] of [
      ['orange', Math.max(...leans)],
      ['purple', Math.min(...leans)],
    ] as const) {
      await corner.nth(leans.indexOf(lean)).hover({ force: true })
      const value = / = ([+−]?[\d.]+)$/.exec((await said.innerText()).trim())![1]!
      expect([hue, value.startsWith('−') ? negative : positive]).toEqual([hue, hue])
    }
  })

  test("a presenter's remote turns the page on a small projector, and reads first where a window cannot hold it", async () => {
    const { page } = await visit(site, '#walk', { viewport: { width: 1280, height: 720 } })
    for (const { id } of SCREENS) {
      await arrived(page, id)
      await page.keyboard.press('PageDown')
    }
    await arrived(page, 'guess')
    await page.keyboard.press('PageUp')
    await arrived(page, 'fit')
    const narrow = await visit(site, '#walk', { viewport: { width: 390, height: 600 }, reducedMotion: 'reduce' })
    await arrived(narrow.page, 'stream')
    await narrow.page.keyboard.press('PageDown')
    await narrow.page.waitForTimeout(300)
    await arrived(narrow.page, 'stream')
    await expect
      .poll(async () => {
        await narrow.page.keyboard.press('PageDown')
        await narrow.page.waitForTimeout(300)
        return new URL(narrow.page.url()).hash
      })
      .not.toBe('#walk')
  })

  test('a box stays beside its words', async () => {
    const { page } = await visit(site, '#walk')
    for (const id of ['tokens', 'walk', 'two-maps', 'guess'] as const) {
      await page.evaluate(id => {
        location.hash = `#walk/${id}`
      }, id)
      await arrived(page, id)
      const box = page.locator('dialog label input[type=checkbox]').first()
      const [it, words] = [(await box.boundingBox())!, (await box.locator('..').boundingBox())!]
      // In the first line of words, or in the middle of two.
      expect([id, words.height < 48, it.x - words.x < 2]).toEqual([id, true, true])
      expect(
        await box.evaluate(element => {
          const range = document.createRange()
          range.selectNodeContents(element.parentElement!)
          range.setStartAfter(element)
          return range.getBoundingClientRect().left > element.getBoundingClientRect().right
        }),
      ).toBe(true)
    }
  })

  test('the random walk steps, plays, pauses and starts again; with reduced motion it only steps', async () => {
    const { page } = await visit(site, '#walk/walk')
    const said = page.locator('.read')
    await page.getByRole('button', { name: 'Step', exact: true }).click()
    await page.getByText(/^After 1 step at text/).waitFor()
    await page.getByRole('button', { name: 'Play' }).click()
    await page.getByText(/^After [3-9] steps at text/).waitFor()
    await page.getByRole('button', { name: 'Pause' }).click()
    await page.getByLabel('All chances instead of one walker').check()
    expect(await said.innerText()).toMatch(/^After \d+ steps the chances are [\d.]+\s% away/)
    await page.getByRole('button', { name: 'Start again' }).click()
    await page.getByText('After 0 steps').waitFor()
    const still = await visit(site, '#walk/walk', { reducedMotion: 'reduce' })
    await still.page.getByText('Your system asks for less motion').waitFor()
    expect(await still.page.getByRole('button', { name: 'Play' }).count()).toBe(0)
  })

  test('the self-test says what is wrong, what is missing, and when it is solved', async () => {
    const { page } = await visit(site, '#walk/guess')
    const press = (...layers: number[]) =>
      layers.reduce(
        (before, layer) => before.then(() => page.locator('.layers button').nth(layer).click()),
        Promise.resolve(),
      )
    const feedback = page.locator('.feedback')
    await press(1, 2, 3)
    await page.getByRole('button', { name: 'Check' }).click()
    await expect.poll(() => feedback.innerText()).toMatch(/2 of 7 found, 1 layer too many\. Layer 1 does look like/)
    await press(1, 5, 6, 8, 9)
    await page.getByRole('button', { name: 'Check' }).click()
    await expect.poll(() => feedback.innerText()).toContain('Look at the square of layers 10 and 11')
    await press(11)
    await page.getByRole('button', { name: 'Check' }).click()
    await expect.poll(() => feedback.innerText()).toContain('All 7, and none too many.')
  })

  test('what does not arrive is said, and can be tried again', async () => {
    const { page } = await visit(site)
    await page.route(/demo-points/, route => route.abort())
    await page.getByRole('link', { name: 'How it works' }).click()
    await page.getByText('The walk could not be loaded').waitFor()
    await page.unroute(/demo-points/)
    await page.getByRole('button', { name: 'Try again' }).click()
    await arrived(page, 'stream')
  })

  /** All rules in one look; in the other those that depend on colours and sizes, so tall that nothing is under the footer. */
  test.each([
    ['light', 1440, 900, []],
    ['dark', 390, 2400, ['color-contrast', 'target-size']],
  ] as const)(
    'accessible and within its width, %s at %d px',
    async (colorScheme, width, height, rules) => {
      const { page } = await visit(site, '#walk', { colorScheme, viewport: { width, height }, reducedMotion: 'reduce' })
      for (const { id } of SCREENS) {
        await page.evaluate(id => {
          location.hash = `#walk/${id}`
        }, id)
        await arrived(page, id)
        if (id === 'cell')
          await page
            .locator('dialog')
            .getByRole('gridcell', { name: /^layers 10 and 11: similarity/ })
            .first()
            .waitFor()
        const axe = new AxeBuilder({ page }).include('dialog')
        const { violations } = await (rules.length ? axe.withRules([...rules]) : axe).analyze()
        expect(
          violations.map(
            ({ id: rule, nodes }) =>
              `${id}: ${rule}: ${nodes
                .map(node => node.html.slice(0, 120))
                .slice(0, 3)
                .join(' | ')}`,
          ),
        ).toEqual([])
        expect(
          await page.evaluate(() => {
            const dialog = document.querySelector('dialog')!
            return dialog.scrollWidth - dialog.clientWidth
          }),
        ).toBeLessThanOrEqual(0)
      }
    },
    240_000,
  )
})

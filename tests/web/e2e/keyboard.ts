import type { Page } from 'playwright-core'

/** The element that keys go to: its role or tag, its name, and whether a person sees that it has the focus. */
interface Focused {
  what: string
  name: string
  seen: boolean
}

function focused(page: Page): Promise<Focused> {
  return page.evaluate(() => {
    const element = document.activeElement!
    const { outlineStyle, outlineWidth } = getComputedStyle(element)
    const labelled = element as HTMLInputElement
    const own =
      element.getAttribute('aria-label') ?? labelled.labels?.[0]?.innerText ?? (element as HTMLElement).innerText ?? ''
    // A square of a matrix is framed, a hidden input shows on its label.
    const elsewhere = element.getAttribute('role') === 'gridcell' || element.classList.contains('sr')
    return {
      what: element.getAttribute('role') ?? element.tagName.toLowerCase(),
      name: own.trim().replace(/\s+/g, ' '),
      seen: elsewhere || (outlineStyle !== 'none' && parseFloat(outlineWidth) >= 1),
    }
  })
}

/**
 * From what has the focus to the element with this name: how many keys that takes. Tab is pressed, and Enter on each
 * link that skips what lies between.
 */
export async function keysTo(page: Page, name: string, limit = 150): Promise<number> {
  for (let keys = 1; keys <= limit; keys++) {
    await page.keyboard.press('Tab')
    const { name: here } = await focused(page)
    if (here === name) return keys
    if (here === `Skip to ${name}`) {
      await page.keyboard.press('Enter')
      keys++
    }
  }
  throw new Error(`${name} is not reached by ${limit} keys`)
}

/** Presses Tab until the element with this name has the focus, and says which of the stops on the way cannot be seen. */
export async function tabTo(page: Page, name: string | RegExp, limit = 150): Promise<string[]> {
  const unseen: string[] = []
  for (let stop = 0; stop < limit; stop++) {
    await page.keyboard.press('Tab')
    const { what, name: here, seen } = await focused(page)
    if (!seen && what !== 'body') unseen.push(`${what} "${here}"`)
    if (typeof name === 'string' ? here === name : name.test(here)) return unseen
  }
  throw new Error(`${name} is not among the next ${limit} stops`)
}

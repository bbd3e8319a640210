import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser, Locator, Page } from 'playwright-core'

/** Where the pictures lie that a person has looked at. `LOOKS=update` stores those of this run in their place. */
const STORED = 'tests/web/looks'
const UPDATE = process.env.LOOKS === 'update'
/** Mean colours of squares of so many pixels are compared: letters may be drawn a little otherwise. */
const SQUARE = 8
/** A square differs from here on, in steps of 255; a picture where more than this share of its squares do. */
const STEPS = 20
const SHARE = 0.006

/** What decides how text is set: the browser, and how wide it sets a line in the page's font. */
export async function typesetting(browser: Browser, page: Page): Promise<string> {
  const width = await page.evaluate(() => {
    const context = document.createElement('canvas').getContext('2d')!
    context.font = `100px ${getComputedStyle(document.body).fontFamily}`
    return context.measureText('Layers of a language model 0123456789').width.toFixed(1)
  })
  return `Chromium ${browser.version().split('.')[0]}, ${width}`
}

/** Why the stored pictures cannot be compared with here; empty where they can. */
export function notComparable(here: string): string {
  const note = join(STORED, 'made-with.txt')
  if (UPDATE) {
    mkdirSync(STORED, { recursive: true })
    writeFileSync(note, `${here}\n`)
    return ''
  }
  if (!existsSync(note)) return 'there are no stored pictures (LOOKS=update makes them)'
  const there = readFileSync(note, 'utf8').trim()
  return there === here ? '' : `text is set otherwise here (${here}) than where the pictures were made (${there})`
}

/** Says in words how a part of the page differs from its stored picture; empty where it does not. */
export async function difference(page: Page, name: string, part: Page | Locator): Promise<string> {
  const path = join(STORED, `${name}.jpg`)
  const seen = join(tmpdir(), `laminate-${name}.jpg`)
  const blank = await page.context().newPage()
  /** Half as wide and high, which is enough to see what has changed. Pictures of half the size are not alike: letters would lie on other halves of pixels. */
  const take = async () => {
    const whole = await part.screenshot({ animations: 'disabled', caret: 'hide' })
    return Buffer.from(await blank.evaluate(halved, whole.toString('base64')), 'base64')
  }
  try {
    if (UPDATE) {
      writeFileSync(path, await take())
      return ''
    }
    if (!existsSync(path)) return `${name}: there is no stored picture (LOOKS=update makes it)`
    // What has just changed may still be on its way to its place.
    let why = ''
    for (let tries = 0; tries < 3; tries++) {
      const picture = await take()
      const share = await blank.evaluate(compare, [
        readFileSync(path).toString('base64'),
        picture.toString('base64'),
        SQUARE,
        STEPS,
      ] as const)
      if (share !== null && share <= SHARE) return ''
      writeFileSync(seen, picture)
      why = share === null ? 'it has another size' : `${(100 * share).toFixed(1)} % of it looks otherwise`
      await page.waitForTimeout(500)
    }
    return `${name}: ${why}; see ${seen}, and store it with LOOKS=update if it is right`
  } finally {
    await blank.close()
  }
}

/** Runs in a page: a PNG picture as a JPEG one of half its sides. */
async function halved(base64: string): Promise<string> {
  const image = new Image()
  image.src = `data:image/png;base64,${base64}`
  await image.decode()
  const canvas = document.createElement('canvas')
  canvas.width = Math.round(image.naturalWidth / 2)
  canvas.height = Math.round(image.naturalHeight / 2)
  const context = canvas.getContext('2d')!
  context.imageSmoothingQuality = 'high'
  context.drawImage(image, 0, 0, canvas.width, canvas.height)
  return canvas.toDataURL('image/jpeg', 0.7).split(',')[1]!
}

/** Runs in a page: the share of squares that differ, or null where the sizes do. */
async function compare([before, after, square, steps]: readonly [string, string, number, number]): Promise<
  number | null
> {
  const means = async (base64: string) => {
    const image = new Image()
    image.src = `data:image/jpeg;base64,${base64}`
    await image.decode()
    const [width, height] = [Math.ceil(image.naturalWidth / square), Math.ceil(image.naturalHeight / square)]
    const context = new OffscreenCanvas(width, height).getContext('2d')!
    context.imageSmoothingQuality = 'high'
    context.drawImage(image, 0, 0, width, height)
    return {
      size: `${image.naturalWidth} x ${image.naturalHeight}`,
      data: context.getImageData(0, 0, width, height).data,
    }
  }
  const [one, other] = [await means(before), await means(after)]
  if (one.size !== other.size) return null
  let different = 0
  for (let i = 0; i < one.data.length; i += 4) {
    if ([0, 1, 2].some(channel => Math.abs(one.data[i + channel]! - other.data[i + channel]!) > steps)) different++
  }
  return different / (one.data.length / 4)
}

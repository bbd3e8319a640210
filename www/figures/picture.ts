/** Drawings of the page as files of their own: as they look now, with what style sheets say written out. */
import { unpainted } from '../charts/beside'
import { wrapped } from '../charts/text'
import { Failure } from '../engine/errors'

export interface Drawing {
  svg: string
  /** In CSS pixels. */
  width: number
  height: number
}

const SVG = 'http://www.w3.org/2000/svg'
/** What is drawn only while somebody points at it, and is no part of the picture, has this attribute. */
const PASSING = '[data-passing]'
/** Properties that style sheets give, with what they are where nobody says anything. */
const LOOKS: Record<string, readonly string[]> = {
  fill: [],
  stroke: ['none'],
  'fill-opacity': ['1'],
  'stroke-opacity': ['1'],
  'stroke-width': ['1px'],
  'stroke-dasharray': ['none'],
  'stroke-linejoin': ['miter'],
  'stroke-linecap': ['butt'],
  opacity: ['1'],
  'font-size': ['16px'],
  'font-weight': ['400'],
  'paint-order': ['normal'],
  visibility: ['visible'],
  'shape-rendering': ['auto'],
}
const LINE = 18
const MARGIN = 16

/**
 * All drawings in `root`, SVG or canvas, where they stand to each other on the page, on the page's ground, with
 * the caption below. `root` may be a drawing itself. Icons are left out: what is smaller than 24 px.
 */
export function drawingOf(root: Element, caption: readonly string[] = []): Drawing {
  const parts = (root.matches('svg, canvas') ? [root] : [...root.querySelectorAll('svg, canvas')])
    .filter(part => !part.parentElement?.closest('svg, button, label') && !part.closest(PASSING))
    .map(part => ({ part, box: part.getBoundingClientRect() }))
    .filter(({ box }) => box.width >= 24 && box.height >= 24)
  if (parts.length === 0) throw new Failure('usage', 'There is no picture to save yet.')
  const [left, top] = [Math.min(...parts.map(({ box }) => box.left)), Math.min(...parts.map(({ box }) => box.top))]
  const inner = Math.ceil(Math.max(...parts.map(({ box }) => box.right)) - left)
  const below = Math.ceil(Math.max(...parts.map(({ box }) => box.bottom)) - top)
  const lines = caption.flatMap(line => wrapped(line, inner))
  const [width, height] = [inner + 2 * MARGIN, below + 2 * MARGIN + (lines.length > 0 ? 8 + lines.length * LINE : 0)]
  const page = getComputedStyle(document.documentElement)
  const outer = element('svg', {
    xmlns: SVG,
    width,
    height,
    viewBox: `0 0 ${width} ${height}`,
    'font-family': 'system-ui, sans-serif',
  })
  outer.append(element('rect', { width, height, fill: plainColour(page.backgroundColor) }))
  for (const { part, box } of parts) {
    const place = { x: MARGIN + box.left - left, y: MARGIN + box.top - top, width: box.width, height: box.height }
    outer.append(
      part instanceof HTMLCanvasElement
        ? element('image', {
            ...place,
            href: part.toDataURL('image/png'),
            preserveAspectRatio: 'none',
            'image-rendering': getComputedStyle(part).imageRendering,
          })
        : copyOf(part as SVGSVGElement, place),
    )
  }
  lines.forEach((line, i) =>
    outer.append(
      element(
        'text',
        { x: MARGIN, y: MARGIN + below + 4 + (i + 1) * LINE, 'font-size': 12, fill: plainColour(page.color) },
        line,
      ),
    ),
  )
  return { svg: new XMLSerializer().serializeToString(outer), width, height }
}

/** Twice as many pixels as on the page, unless that is more than a canvas can hold. */
export async function pngOf({ svg, width, height }: Drawing, scale = 2): Promise<Blob> {
  const url = URL.createObjectURL(new Blob([svg], { type: 'image/svg+xml' }))
  try {
    const image = new Image()
    image.src = url
    await image.decode()
    const canvas = document.createElement('canvas')
    const fit = Math.min(scale, 16_000 / Math.max(width, height))
    Object.assign(canvas, { width: Math.round(width * fit), height: Math.round(height * fit) })
    canvas.getContext('2d')?.drawImage(image, 0, 0, canvas.width, canvas.height)
    const blob = await new Promise<Blob | null>(resolve => canvas.toBlob(resolve, 'image/png'))
    if (blob) return blob
  } catch {
    // Said below.
  } finally {
    URL.revokeObjectURL(url)
  }
  throw new Failure('source', 'The browser could not draw the picture as PNG. Save it as SVG.')
}

/** A copy that needs no style sheet, set where it stands. */
function copyOf(svg: SVGSVGElement, place: Record<string, number>): SVGSVGElement {
  const copy = svg.cloneNode(true) as SVGSVGElement
  const copies = [copy, ...copy.querySelectorAll('*')]
  unpainted(svg, copy)
  for (const [i, original] of [svg, ...svg.querySelectorAll('*')].entries()) dress(original, copies[i]!)
  copy.querySelectorAll(`${PASSING}, [data-undrawn]`).forEach(each => each.remove())
  const label = svg.getAttribute('aria-label')
  for (const [name, value] of Object.entries(place)) copy.setAttribute(name, String(value))
  copy.setAttribute('overflow', 'visible')
  if (label) copy.prepend(element('title', {}, label))
  return copy
}

function dress(original: Element, copy: Element): void {
  for (const name of copy.getAttributeNames())
    if (/^(style|class|role|tabindex|aria-.*|data-(?!passing|painted).*)$/.test(name)) copy.removeAttribute(name)
  const look = getComputedStyle(original)
  if (look.display === 'none') return copy.setAttribute('data-undrawn', '')
  if (original.localName === 'g' || original.localName === 'svg') {
    if (look.opacity !== '1') copy.setAttribute('opacity', look.opacity)
    return
  }
  for (const [name, defaults] of Object.entries(LOOKS)) {
    const value = plainColour(look.getPropertyValue(name))
    if (defaults.includes(value)) copy.removeAttribute(name)
    else copy.setAttribute(name, value)
  }
}

/** Mixed colours are computed as `color(srgb r g b / a)`, which few programs but browsers know. */
function plainColour(value: string): string {
  const [, channels, alpha] = /^color\(srgb ([\d.e -]+?)(?: \/ ([\d.]+))?\)$/.exec(value) ?? []
  if (channels === undefined) return value
  const rgb = channels
    .split(' ')
    .map(channel => Math.round(Number(channel) * 255))
    .join(', ')
  return alpha === undefined ? `rgb(${rgb})` : `rgba(${rgb}, ${alpha})`
}

function element(name: string, attributes: Record<string, string | number>, text = ''): SVGElement {
  const made = document.createElementNS(SVG, name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value))
  made.textContent = text
  return made
}

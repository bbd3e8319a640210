// @ts-check
/** The icon as PNG files in the sizes that systems ask for, drawn from `www/icon.svg`, so that it is stored once. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { crc32, deflateSync } from 'node:zlib'
import { root } from './paths.mjs'

/** The canvas of the drawing. */
const UNITS = 32
const PAPER = [0xfb, 0xfa, 0xf8]
/** Points a pixel and direction. */
const SAMPLES = 2

/** @typedef {{ x: number, y: number, width: number, height: number, radius: number, colour: number[] }} Layer */

/** The drawing's rectangles, which is all that it may hold. @param {string} svg @returns {Layer[]} */
export function layersOf(svg) {
  const rects = [...svg.matchAll(/<rect ([^>]*)\/>/g)].map(
    ([, text = '']) => new Map([...text.matchAll(/(\w+)="([^"]*)"/g)].map(([, name, value]) => [name, value])),
  )
  return rects.map(rect => {
    const [x, y, width, height, radius] = ['x', 'y', 'width', 'height', 'rx'].map(name => Number(rect.get(name) ?? NaN))
    const colour = (/^#(..)(..)(..)$/.exec(rect.get('fill') ?? '') ?? []).slice(1).map(part => parseInt(part, 16))
    const layer = { x, y, width, height, radius, colour }
    if (colour.length !== 3 || Object.values(layer).some(Number.isNaN))
      throw new Error('www/icon.svg holds a rectangle without place, size, radius or colour (#rrggbb).')
    return /** @type {Layer} */ (layer)
  })
}

/** Whether a point lies in a rectangle with round corners. @param {number} u @param {number} v @param {Omit<Layer, 'colour'>} shape */
function inside(u, v, { x, y, width, height, radius }) {
  const dx = Math.max(x + radius - u, u - (x + width - radius), 0)
  const dy = Math.max(y + radius - v, v - (y + height - radius), 0)
  return dx * dx + dy * dy <= radius * radius
}

/**
 * The icon in `side` by `side` pixels, RGBA, on paper. A `maskable` one fills the square and keeps within the middle
 * four fifths, because systems cut it to shapes of their own. @param {Layer[]} layers @param {number} side @param {boolean} maskable
 */
export function iconPixels(layers, side, maskable) {
  const scale = maskable ? 0.72 : 0.9
  const paper = { x: 0, y: 0, width: UNITS, height: UNITS, radius: maskable ? 0 : 6, colour: PAPER }
  const shrunk = (/** @type {number} */ place) => (place - UNITS / 2) * scale + UNITS / 2
  // The uppermost first, in units of the canvas.
  const shapes = [
    ...layers.map(({ x, y, width, height, radius, colour }) => ({
      x: shrunk(x),
      y: shrunk(y),
      width: width * scale,
      height: height * scale,
      radius: radius * scale,
      colour,
    })),
    paper,
  ]
  const step = UNITS / side / SAMPLES
  const pixels = Buffer.alloc(side * side * 4)
  for (let i = 0; i < side * side; i++) {
    let [red, green, blue, opaque] = [0, 0, 0, 0]
    for (let s = 0; s < SAMPLES * SAMPLES; s++) {
      const u = ((i % side) * SAMPLES + (s % SAMPLES) + 0.5) * step
      const v = (Math.floor(i / side) * SAMPLES + Math.floor(s / SAMPLES) + 0.5) * step
      const colour = inside(u, v, paper) ? shapes.find(shape => inside(u, v, shape))?.colour : undefined
      if (!colour) continue
      red += colour[0] ?? 0
      green += colour[1] ?? 0
      blue += colour[2] ?? 0
      opaque++
    }
    if (opaque === 0) continue
    const at = i * 4
    pixels[at] = Math.round(red / opaque)
    pixels[at + 1] = Math.round(green / opaque)
    pixels[at + 2] = Math.round(blue / opaque)
    pixels[at + 3] = Math.round((255 * opaque) / SAMPLES ** 2)
  }
  return pixels
}

/** One chunk of a PNG file: length, name, content, check sum. @param {string} name @param {Buffer} content */
function chunk(name, content) {
  const named = Buffer.concat([Buffer.from(name, 'latin1'), content])
  const frame = Buffer.alloc(8)
  frame.writeUInt32BE(content.length, 0)
  frame.writeUInt32BE(crc32(named), 4)
  return Buffer.concat([frame.subarray(0, 4), named, frame.subarray(4)])
}

/** RGBA pixels of a square as a PNG file. @param {Buffer} pixels @param {number} side */
export function pngFile(pixels, side) {
  const header = Buffer.alloc(13)
  header.writeUInt32BE(side, 0)
  header.writeUInt32BE(side, 4)
  header.set([8, 6, 0, 0, 0], 8)
  const rows = Array.from({ length: side }, (_, y) =>
    Buffer.concat([Buffer.of(0), pixels.subarray(y * side * 4, (y + 1) * side * 4)]),
  )
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(Buffer.concat(rows), { level: 9 })),
    chunk('IEND', Buffer.alloc(0)),
  ])
}

/** Every icon: where it lies, its side, and whether systems may cut it. */
export const ICONS = /** @type {const} */ ([
  { path: 'icons/192.png', side: 192, maskable: false },
  { path: 'icons/512.png', side: 512, maskable: false },
  { path: 'icons/maskable-512.png', side: 512, maskable: true },
  { path: 'icons/apple-touch-180.png', side: 180, maskable: true },
])

/** @param {typeof ICONS[number]} icon */
export function iconFile({ side, maskable }) {
  const layers = layersOf(readFileSync(join(root, 'www', 'icon.svg'), 'utf8'))
  return pngFile(iconPixels(layers, side, maskable), side)
}

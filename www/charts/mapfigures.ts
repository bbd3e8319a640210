/** The maps as drawings that stand alone: strings of SVG, made of the numbers and not of the page. */
import type { LayerMap } from '../engine/protocol/engine'
import { dotRadius, fitMap } from './dots'
import { drawing, round, type DrawingLook } from './drawing'

export interface MapLook extends DrawingLook {
  colours: readonly string[]
  ground: string
}

const TILE = 120
const GAP = 12

/** All layers, ten in a row. */
export function multiplesSvg(maps: readonly LayerMap[], look: MapLook, title: string): string {
  const columns = Math.min(10, Math.max(1, maps.length))
  const step = TILE + GAP
  const tiles = maps.map((map, i) => {
    const [x, y] = [(i % columns) * step, Math.floor(i / columns) * (step + 16)]
    const word = map.disconnected ? ', nearly disconnected' : ''
    return `<g transform="translate(${x} ${y})"><text y="12">layer ${map.layer}${word}</text><g transform="translate(0 18)">${dotsSvg(map, look, { width: TILE, height: TILE, pad: 6 })}</g></g>`
  })
  const rows = Math.ceil(maps.length / columns)
  return drawing(columns * step - GAP, rows * (step + 16) + 8, look, title, tiles.join('\n'))
}

/** One layer with its axes. */
export function mapSvg(map: LayerMap, look: MapLook, title: string): string {
  const frame = { width: 560, height: 440, pad: 16 }
  const { xTicks, yTicks } = fitMap(map, frame)
  const grid = [
    ...xTicks.map(
      ({ value, at }) =>
        `<path d="M${round(at)} 0V${frame.height}" stroke="${look.ink}" stroke-opacity="0.15"/><text x="${round(at)}" y="${frame.height + 16}" text-anchor="middle">${value}</text>`,
    ),
    ...yTicks.map(
      ({ value, at }) =>
        `<path d="M0 ${round(at)}H${frame.width}" stroke="${look.ink}" stroke-opacity="0.15"/><text x="-8" y="${round(at)}" dy="0.32em" text-anchor="end">${value}</text>`,
    ),
    `<text x="${frame.width / 2}" y="${frame.height + 34}" text-anchor="middle">1st coordinate of layer ${map.layer} →, 2nd ↑</text>`,
  ]
  const body = `<g transform="translate(56 24)">${dotsSvg(map, look, frame)}${grid.join('')}</g>`
  return drawing(frame.width + 72, frame.height + 72, look, title, body)
}

function dotsSvg(
  map: LayerMap,
  { colours, ink, ground }: MapLook,
  frame: { width: number; height: number; pad: number },
): string {
  const { at } = fitMap(map, frame)
  const radius = dotRadius(at.length / 2, frame)
  const dots = Array.from(
    { length: at.length / 2 },
    (_, point) =>
      `<circle cx="${round(at[2 * point]!)}" cy="${round(at[2 * point + 1]!)}" r="${round(radius)}" fill="${colours[point] ?? ink}"/>`,
  )
  return `<rect width="${frame.width}" height="${frame.height}" fill="${ground}"/><g stroke="${ink}" stroke-opacity="0.3" stroke-width="0.5">${dots.join('')}</g>`
}

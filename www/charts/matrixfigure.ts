/** The similarity matrix as a drawing that stands alone: a string of SVG, made of the numbers and not of the page. */
import type { SimilarityReport } from '../engine/protocol/similarity'
import { colourOf, domainFor, legend } from './colour'
import { drawing, round } from './drawing'
import { groupSquares, layerTicks } from './matrix'

/** A web page's white and its ink: the drawing is for other pages. */
const LOOK = { ink: '#1d1d1b', paper: '#ffffff' }
/** About this many pixels are the side of the square of cells. */
const SIDE = 560
const LEFT = 48
const TOP = 16

/** All pairs of layers, with frames around those that became one, and the legend of the colours. */
export function matrixSvg(
  { layers: n, metric, similarity }: Pick<SimilarityReport, 'layers' | 'metric' | 'similarity'>,
  groups: readonly (readonly number[])[],
  title: string,
): string {
  const cell = Math.max(2, Math.round(SIDE / n))
  const side = cell * n
  const domain = domainFor(metric, similarity)
  const cells = similarity.flatMap((row, l) =>
    row.map(
      (value, m) =>
        `<rect x="${m * cell}" y="${l * cell}" width="${cell}" height="${cell}" fill="${colourOf(value, 'viridis', domain)}"/>`,
    ),
  )
  const frames = groupSquares(groups, cell).map(
    ({ x, side: s }) => `<rect x="${x}" y="${x}" width="${s}" height="${s}"/>`,
  )
  const ticks = layerTicks(n, cell).map(layer => {
    const at = round((layer + 0.5) * cell)
    return `<text x="${at}" y="${side + 18}" text-anchor="middle">${layer}</text><text x="-8" y="${at}" dy="0.35em" text-anchor="end">${layer}</text>`
  })
  const { stops, labels } = legend('viridis', domain)
  const scale = [
    ...stops.map(({ at, colour }) => `<rect x="${round(at * 200 - 2.5)}" width="5.5" height="12" fill="${colour}"/>`),
    ...labels.map(({ at, value }) => `<text x="${round(at * 200)}" y="28" text-anchor="middle">${value}</text>`),
  ]
  const body = [
    `<g transform="translate(${LEFT} ${TOP})">`,
    `<g shape-rendering="crispEdges">${cells.join('')}</g>`,
    `<g fill="none" stroke="#ffffff" stroke-width="2">${frames.join('')}</g>`,
    ticks.join(''),
    `<text x="${round(side / 2)}" y="${side + 38}" text-anchor="middle">layer, counted from the input</text>`,
    `<g transform="translate(8 ${side + 54})">${scale.join('')}</g>`,
    '</g>',
  ].join('')
  return drawing(LEFT + side + 24, TOP + side + 96, LOOK, title, body)
}

/** What a figure can be saved as. A view says what it has; the formats follow from that. */
import type { SimilarityReport } from '../engine/protocol/similarity'
import { whole } from '../ui/format'
import { METRICS } from '../words/metrics'
import { csvFile, recordsOf, type Table } from './csv'
import { npyFile, type NumericArray } from './npy'
import { drawingOf, pngOf, type Drawing } from './picture'

export interface Figure {
  /** Name of the files without their endings. */
  name: string
  /** In words, for the button: "Save the similarity". */
  what: string
  /** Below the picture: what it shows, of which model, on which text. */
  caption?: readonly string[]
  /** An `svg`, a `canvas`, or whatever stands around them, as it is on the page now. */
  picture?: () => Element | null | undefined
  /** SVG that was made of the numbers and not of the page, where there is such. */
  drawn?: () => string
  /** CSV, and JSON unless `json` has more. */
  table?: () => Table
  /** CSV of another form than a table with a heading a column. */
  csv?: () => string
  json?: () => unknown
  /** NPY, float64. */
  array?: () => NumericArray | null
  markdown?: () => string
}

export type Format = 'png' | 'svg' | 'csv' | 'json' | 'npy' | 'md'

const FORMATS: readonly { format: Format; word: string; hint: string; has: (figure: Figure) => boolean }[] = [
  {
    format: 'png',
    word: 'PNG',
    hint: 'picture, at twice its size here',
    has: figure => Boolean(figure.picture ?? figure.drawn),
  },
  {
    format: 'svg',
    word: 'SVG',
    hint: 'drawing, sharp at any size',
    has: figure => Boolean(figure.picture ?? figure.drawn),
  },
  { format: 'csv', word: 'CSV', hint: 'table, for a spreadsheet', has: figure => Boolean(figure.csv ?? figure.table) },
  { format: 'json', word: 'JSON', hint: 'all its numbers', has: figure => Boolean(figure.json ?? figure.table) },
  { format: 'npy', word: 'NPY', hint: 'float64 array, for NumPy', has: figure => Boolean(figure.array?.()) },
  { format: 'md', word: 'Markdown', hint: 'table, for a text', has: figure => Boolean(figure.markdown) },
]

/** Those that make sense for it. */
export function formatsOf(figure: Figure) {
  return FORMATS.filter(({ has }) => has(figure))
}

/** The file: its name and what is in it. */
export async function fileOf(figure: Figure, format: Format): Promise<{ name: string; blob: Blob }> {
  const named = (content: BlobPart, type: string) => ({
    name: `${figure.name}.${format}`,
    blob: new Blob([content], { type }),
  })
  const drawn = () => (figure.drawn ? standing(figure.drawn()) : drawing(figure.picture?.(), figure.caption))
  const table = figure.table?.()
  switch (format) {
    case 'png':
      return named(await pngOf(drawn()), 'image/png')
    case 'svg':
      return named(drawn().svg, 'image/svg+xml')
    case 'csv':
      return named(figure.csv?.() ?? (table ? csvFile(table) : ''), 'text/csv')
    case 'json':
      return named(JSON.stringify(figure.json?.() ?? (table ? recordsOf(table) : null), null, 1), 'application/json')
    case 'npy':
      return named(npyFile(figure.array?.() ?? { shape: [0], data: new Float64Array() }), 'application/octet-stream')
    case 'md':
      return named(figure.markdown?.() ?? '', 'text/markdown')
  }
}

/** Its size is what it says in its first tag. */
function standing(svg: string): Drawing {
  const [, width, height] = /<svg[^>]* width="([\d.]+)" height="([\d.]+)"/.exec(svg) ?? []
  return { svg, width: Number(width ?? 640), height: Number(height ?? 480) }
}

function drawing(picture: Element | null | undefined, caption?: readonly string[]) {
  return drawingOf(picture ?? document.createElement('div'), caption)
}

/** "Similarity by linear CKA of the 12 layers of x. On text y, 6,016 tokens scored." */
export function captionOf(
  { model, layers, metric, text }: SimilarityReport,
  what = `Similarity by ${METRICS[metric].full} of the ${layers} layers`,
): string[] {
  return [
    `${what} of ${model.name}.${text.tokens_scored > 0 ? ` On ${text.name}, ${whole(text.tokens_scored)} tokens scored.` : ''} Laminate.`,
  ]
}

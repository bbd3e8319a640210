/**
 * Kinds of layers along the axes of a picture. Each kind has a colour and a texture of lines, so that colour is never
 * needed to tell two apart. Pure functions.
 */
import { markColour } from './marks'
import { flowed } from './text'

export interface Kind {
  /** As the engine says it: "attention with a window". */
  words: string
  layers: number
}

/** A piece of a band: neighbouring layers of one kind. */
export interface KindPiece {
  kind: number
  /** The first layer of the piece. */
  from: number
  x: number
  y: number
  width: number
  height: number
  colour: string
  /** Path of the texture, and how thick its lines are. */
  lines: string
  stroke: number
}

/** More kinds than any model has; that many look different from each other. */
export const MOST_KINDS = 24
/** Letters of the longest words for a kind that are read from a file. */
export const LONGEST_KIND = 80

/** The kinds in the order in which they first occur; none where all layers are alike, or nothing is known. */
export function kindsOf(layers: readonly string[] | undefined): Kind[] {
  const words = [...new Set(layers)]
  return words.length < 2
    ? []
    : words.map(kind => ({ words: kind, layers: layers!.filter(each => each === kind).length }))
}

/** "3 Mamba, 6 Mamba and experts". */
export function kindCounts(layers: readonly string[]): string {
  return [...new Set(layers)].map(kind => `${layers.filter(each => each === kind).length} ${kind}`).join(', ')
}

/** What is said of two layers after their similarity; nothing where all layers are alike. */
export function kindWords(layers: readonly string[] | undefined, row: number, col: number): string {
  const [first, second] = [Math.min(row, col), Math.max(row, col)].map(layer => layers?.[layer])
  if (kindsOf(layers).length === 0 || first === undefined || second === undefined) return ''
  if (row === col) return `; kind: ${first}`
  return first === second ? `; both of one kind: ${first}` : `; kinds: ${first}, ${second}`
}

/** Whether layers `first` to `last` are of several kinds. */
export function areMixed(layers: readonly string[] | undefined, first: number, last: number): boolean {
  return new Set(layers?.slice(first, last + 1)).size > 1
}

/** Whether something from a file says of each of so many layers what kind it is. */
export function areKinds(value: unknown, layers: number): value is string[] {
  return (
    Array.isArray(value) &&
    value.length === layers &&
    new Set(value).size <= MOST_KINDS &&
    value.every(each => typeof each === 'string' && each.length > 0 && each.length <= LONGEST_KIND)
  )
}

type Line = readonly [along: number, across: number, toAlong: number, toAcross: number]

/** Places along a length, `step` apart and one at least, as far from each end as half of what is between them. */
function places(length: number, step: number): number[] {
  const count = Math.max(1, Math.floor(length / step))
  return Array.from({ length: count }, (_, i) => ((i + 0.5) * length) / count)
}

/** Lines within a length and a thickness: each is told apart on a piece that is as long as it is thick. */
const TEXTURES: readonly ((length: number, thick: number) => Line[])[] = [
  () => [],
  (length, thick) => places(length, thick / 2).map(at => [at, 0, at, thick]),
  (length, thick) => [[0, thick / 2, length, thick / 2]],
  (length, thick) => places(length, thick * 0.6).map(at => [at - thick / 8, thick / 2, at + thick / 8, thick / 2]),
  (length, thick) => places(length, thick / 2).map(at => [at, thick / 2, at, thick]),
  (length, thick) => [
    [0, thick / 2, length, thick / 2],
    ...places(length, thick).map((at): Line => [at, 0, at, thick]),
  ],
]

/** Where a band lies: `count` layers from `from` on, `cell` wide each, beginning at `x` and `y`. */
export interface BandPlace {
  x: number
  y: number
  from: number
  count: number
  cell: number
  thick: number
  /** Downwards instead of to the right. */
  down?: boolean
}

/** The band of a picture's axis; nothing where all layers are alike. `kinds` are those of several pictures that stand together. */
export function kindBand(
  layers: readonly string[] | undefined,
  { x, y, from, count, cell, thick, down = false }: BandPlace,
  kinds: readonly string[] = kindsOf(layers).map(({ words }) => words),
): KindPiece[] {
  if (!layers || kinds.length === 0) return []
  const pieces: KindPiece[] = []
  for (let layer = from; layer < Math.min(from + count, layers.length); layer++) {
    const kind = kinds.indexOf(layers[layer]!)
    let last = layer
    while (last + 1 < from + count && layers[last + 1] === layers[layer]) last++
    const [start, length] = [(layer - from) * cell, (last - layer + 1) * cell]
    pieces.push(
      piece(
        kind,
        layer,
        down ? { x, y: y + start, width: thick, height: length } : { x: x + start, y, width: length, height: thick },
        down,
      ),
    )
    layer = last
  }
  return pieces
}

function piece(
  kind: number,
  from: number,
  box: Pick<KindPiece, 'x' | 'y' | 'width' | 'height'>,
  down: boolean,
): KindPiece {
  const [length, thick] = down ? [box.height, box.width] : [box.width, box.height]
  const n = (value: number) => Number(value.toFixed(2))
  const at = (along: number, across: number) =>
    down ? `${n(box.x + across)} ${n(box.y + along)}` : `${n(box.x + along)} ${n(box.y + across)}`
  const lines = TEXTURES[kind % TEXTURES.length]!(length, thick)
  return {
    kind,
    from,
    ...box,
    colour: markColour(kind),
    stroke: n(thick * 0.19),
    lines: lines.map(([along, across, toAlong, toAcross]) => `M${at(along, across)}L${at(toAlong, toAcross)}`).join(''),
  }
}

/** Size of the sample beside a kind's words, in pixels. */
export const SWATCH = { width: 18, thick: 8 }

export interface KindLegend {
  items: { words: string; x: number; y: number; sample: KindPiece }[]
  height: number
}

/** A sample and words for each kind, one beside the other and then below, in so many pixels; the words are 12 px high. */
export function kindLegend(layers: readonly string[] | undefined, width: number): KindLegend {
  const kinds = kindsOf(layers)
  const { items, height } = flowed(
    kinds.map(({ words, layers: count }) => `${words} (${count})`),
    width,
  )
  return {
    height,
    items: items.map(({ text, x, y }, kind) => ({
      words: text,
      x: x + SWATCH.width + 6,
      y: y + 14,
      sample: kindSample(kind, x, y + 6),
    })),
  }
}

/** The look of a kind, at a place. */
export function kindSample(kind: number, x = 0, y = 0): KindPiece {
  return piece(kind, 0, { x, y, width: SWATCH.width, height: SWATCH.thick }, false)
}

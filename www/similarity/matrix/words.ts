/** What a square of the heatmap says, in words: pure functions. */
import { areMixed } from '../../charts/kinds'
import { offDiagonal, signed } from '../../charts/scale'
import { valueAt } from '../../charts/matrix'
import type { View } from '../../charts/view'
import type { Metric } from '../../engine/protocol/similarity'
import { nats, percent, similarity } from '../../ui/format'
import { METRICS } from '../../words/metrics'

export type Rows = readonly (readonly number[])[]

export interface Matrix {
  values: Rows
  metric: Metric
  /** Nats; empty for other metrics than that of the maps. */
  shared: Rows
}

function pairWords(row: number, col: number): string {
  return row === col ? `layer ${row} with itself` : `layers ${Math.min(row, col)} and ${Math.max(row, col)}`
}

/** "layers 1 and 2: similarity 0.929, 2.34 nats shared". */
export function cellWords({ values, shared }: Matrix, row: number, col: number): string {
  const value = valueAt(values, row, col)
  if (value === null) return `${pairWords(row, col)}: not computed yet`
  const nat = valueAt(shared, row, col)
  return `${pairWords(row, col)}: similarity ${similarity(value)}${nat === null ? '' : `, ${nats(nat)} shared`}`
}

/** Of similarities of maps, from which on a sentence holds. Planted copies score above 0.9, layers that all work 0.3 to 0.7; how a pair ranks is said after it, and may not contradict it. */
const GRADES: readonly (readonly [number, string])[] = [
  [0.9, 'Knowing the map of one tells nearly all of the other: they do almost the same.'],
  [0.75, 'Their maps agree in most of what can be measured.'],
  [0.3, 'They share about as much as layers that both work usually do.'],
  [-Infinity, 'Each arranges the texts in its own way.'],
]

/** What the number means, in a sentence or two. */
export function meaning({ values, metric }: Matrix, row: number, col: number): string {
  const value = valueAt(values, row, col)
  if (value === null) return 'The run has not come to this pair yet.'
  if (row === col) return 'A layer is all that it can be like itself: 1, by definition.'
  const others = offDiagonal(values)
  const below = others.filter(other => other < value).length
  const place =
    others.length < 2
      ? ''
      : below === 0
        ? 'The least alike of all pairs.'
        : below >= others.length - 1
          ? value < GRADES[1]![0]
            ? 'No other pair is more alike.'
            : 'The most alike of all pairs.'
          : `More alike than ${percent(below / (others.length - 1))} of the other pairs.`
  const grade =
    metric === 'mi'
      ? GRADES.find(([least]) => value >= least)![1]
      : `By ${METRICS[metric].word} the order says more than the number.`
  return `${grade} ${place}`.trim()
}

/** What merging the two would be. */
export function mergeWords(row: number, col: number, massive: readonly number[], kinds?: readonly string[]): string {
  const [first, last] = [Math.min(row, col), Math.max(row, col)]
  if (first === last) return ''
  const risky = massive.filter(layer => layer > first && layer <= last)
  const warning = risky.length
    ? ` Layer ${risky.join(', ')} writes a massive activation; models seldom survive its being absorbed.`
    : ''
  const between = last - first - 1
  const far =
    between > 0
      ? ` They are not neighbours: they become one only with the ${between === 1 ? 'layer' : `${between} layers`} between them.`
      : ''
  const mixed = areMixed(kinds, first, last)
    ? ' Layers of different kinds are never averaged; they can be dropped or refitted.'
    : ''
  return `${far}${mixed}${warning}`.trim()
}

/** "layers 3 to 6 with layers 3 to 6: similarity 0.41 to 0.93, 0.72 on average". The diagonal is left out. */
export function blockWords(values: Rows, { row, col, rows, cols }: View, name = 'similarity'): string {
  const inside: number[] = []
  for (let l = row; l < row + rows; l++) {
    for (let m = col; m < col + cols; m++) {
      const value = valueAt(values, l, m)
      if (l !== m && value !== null) inside.push(value)
    }
  }
  const range = (at: number, length: number) => (length === 1 ? `layer ${at}` : `layers ${at} to ${at + length - 1}`)
  const where =
    row === col && rows === cols
      ? `${range(row, rows)} with each other`
      : `${range(row, rows)} with ${range(col, cols)}`
  if (inside.length === 0) return `${where}: nothing computed yet`
  const write = name === 'similarity' ? similarity : signed
  const mean = inside.reduce((sum, value) => sum + value, 0) / inside.length
  return `${where}: ${name} ${write(Math.min(...inside))} to ${write(Math.max(...inside))}, ${write(mean)} on average`
}

/** The layers that a block is about where it lies on the diagonal: the first and the last; null beside it. */
export function blockPair({ row, col, rows, cols }: View): readonly [number, number] | null {
  const [first, last] = [Math.max(row, col), Math.min(row + rows, col + cols) - 1]
  return last > first ? [first, last] : null
}

/** First minus second, each pair once; null rows stay empty. */
export function difference(a: Rows, b: Rows): number[][] {
  return a.map((row, l) =>
    b[l]?.length ? row.slice(0, l + 1).map((value, m) => value - (valueAt(b, l, m) ?? Number.NaN)) : [],
  )
}

/** "layers 1 and 2: 0.031 more by diffusion maps (0.929) than by cosine (0.898)". */
export function differenceWords(
  first: { values: Rows; name: string },
  second: { values: Rows; name: string },
  row: number,
  col: number,
): string {
  const [a, b] = [valueAt(first.values, row, col), valueAt(second.values, row, col)]
  if (a === null || b === null) return `${pairWords(row, col)}: not computed yet`
  const by = a - b
  if (row === col || Math.abs(by) < 5e-4) return `${pairWords(row, col)}: no difference, ${similarity(a)} in both`
  return `${pairWords(row, col)}: ${similarity(Math.abs(by))} ${by > 0 ? 'more' : 'less'} alike ${first.name} (${similarity(a)}) than ${second.name} (${similarity(b)})`
}

export function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}

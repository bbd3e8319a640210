import { scaleLinear, scaleLog } from 'd3-scale'
import { logTicks, tickLabel } from '../charts/ticks'
import { removedScale, through, type Line } from './removed'
import type { StoredDemo } from './stored'

export const MEASURES = ['perplexity', 'kl', 'agreement'] as const

export type CostMeasure = (typeof MEASURES)[number]

export interface CostChart {
  /** Of so many layers removed. */
  x: (removed: number) => number
  yTicks: { at: number; label: string }[]
  merged: Line
  dropped: Line
  /** Where the original is, for measures that it has. */
  original: number | null
}

/** What each merge cost, and dropping the same layers. Perplexity multiplies, so its scale is logarithmic. */
export function costChart(
  { merges, perplexity }: Pick<StoredDemo, 'merges' | 'perplexity'>,
  measure: CostMeasure,
  { width, height }: { width: number; height: number },
): CostChart {
  const x = removedScale(merges.length, width)
  const merged = merges.map(merge => merge[measure])
  const dropped = merges.map(merge => merge.dropped[measure])
  const most = Math.max(...merged, ...dropped)
  const range = [height - 8, 8] as const
  const y =
    measure === 'perplexity'
      ? scaleLog([perplexity * 0.85, most * 1.15], range)
      : scaleLinear(measure === 'kl' ? [0, most * 1.05] : [0, 1], range)
  const ticks = measure === 'perplexity' ? logTicks(y.ticks(8)) : y.ticks(5)
  return {
    x,
    merged: through(merged, x, y),
    dropped: through(dropped, x, y),
    yTicks: ticks.map(value => ({
      at: y(value),
      label: measure === 'agreement' ? `${Math.round(value * 100)} %` : tickLabel(value),
    })),
    original: measure === 'perplexity' ? y(perplexity) : null,
  }
}

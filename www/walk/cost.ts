import { scaleLinear, scaleLog, scalePoint } from 'd3-scale'
import { line } from 'd3-shape'
import { logTicks, tickLabel } from '../charts/ticks'
import type { StoredDemo } from './stored'

export type Measure = 'perplexity' | 'kl' | 'agreement'

interface Line {
  path: string
  dots: { x: number; y: number }[]
}

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
  measure: Measure,
  { width, height }: { width: number; height: number },
): CostChart {
  const point = scalePoint(
    merges.map((_, i) => i + 1),
    [0, width],
  ).padding(0.5)
  const x = (removed: number) => point(removed) ?? 0
  const merged = merges.map(merge => merge[measure])
  const dropped = merges.map(merge => merge.dropped[measure])
  const most = Math.max(...merged, ...dropped)
  const range = [height - 8, 8] as const
  const y =
    measure === 'perplexity'
      ? scaleLog([perplexity * 0.85, most * 1.15], range)
      : scaleLinear(measure === 'kl' ? [0, most * 1.05] : [0, 1], range)
  const ticks = measure === 'perplexity' ? logTicks(y.ticks(8)) : y.ticks(5)
  const through = (values: readonly number[]): Line => {
    const dots = values.map((value, i) => ({ x: x(i + 1), y: y(value) }))
    return {
      dots,
      path:
        line<{ x: number; y: number }>(
          dot => dot.x,
          dot => dot.y,
        )(dots) ?? '',
    }
  }
  return {
    x,
    merged: through(merged),
    dropped: through(dropped),
    yTicks: ticks.map(value => ({
      at: y(value),
      label: measure === 'agreement' ? `${Math.round(value * 100)} %` : tickLabel(value),
    })),
    original: measure === 'perplexity' ? y(perplexity) : null,
  }
}

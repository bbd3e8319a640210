/** Three ways to make several layers one, against layers removed. */
import { scaleLog, scalePoint } from 'd3-scale'
import { line } from 'd3-shape'
import { logTicks, tickLabel } from '../charts/ticks'
import type { StoredFits, Way } from './stored'

export const WAYS: readonly (readonly [way: Way, words: string])[] = [
  ['averaged', 'averaged'],
  ['dropped', 'one kept, the others dropped'],
  ['refitted', 'pooled and refitted'],
]

export interface FitChart {
  /** Of so many layers removed. */
  x: (removed: number) => number
  yTicks: { at: number; label: string }[]
  lines: Record<Way, { path: string; dots: { x: number; y: number }[] }>
}

/** KL on a logarithmic scale: what is planted costs thousands of times less than what works. */
export function fitChart({ models }: StoredFits, { width, height }: { width: number; height: number }): FitChart {
  const point = scalePoint(
    models.map((_, i) => i + 1),
    [0, width],
  ).padding(0.5)
  const x = (removed: number) => point(removed) ?? 0
  const all = models.flatMap(model => WAYS.map(([way]) => model[way].kl))
  const y = scaleLog([Math.min(...all) * 0.8, Math.max(...all) * 1.25], [height - 8, 8])
  const through = (way: Way) => {
    const dots = models.map((model, i) => ({ x: x(i + 1), y: y(model[way].kl) }))
    const path = line<{ x: number; y: number }>(
      dot => dot.x,
      dot => dot.y,
    )(dots)
    return { dots, path: path ?? '' }
  }
  return {
    x,
    yTicks: logTicks(y.ticks(6))
      .filter(value => Math.log10(value) % 1 === 0)
      .map(value => ({ at: y(value), label: tickLabel(value) })),
    lines: { averaged: through('averaged'), dropped: through('dropped'), refitted: through('refitted') },
  }
}

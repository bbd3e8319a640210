/** Three ways to make several layers one, against layers removed. */
import { scaleLog } from 'd3-scale'
import { logTicks, tickLabel } from '../charts/ticks'
import { removedScale, through, type Line } from './removed'
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
  lines: Record<Way, Line>
}

/** KL on a logarithmic scale: what is planted costs thousands of times less than what works. */
export function fitChart({ models }: StoredFits, { width, height }: { width: number; height: number }): FitChart {
  const x = removedScale(models.length, width)
  const all = models.flatMap(model => WAYS.map(([way]) => model[way].kl))
  const y = scaleLog([Math.min(...all) * 0.8, Math.max(...all) * 1.25], [height - 8, 8])
  const of = (way: Way) =>
    through(
      models.map(model => model[way].kl),
      x,
      y,
    )
  return {
    x,
    yTicks: logTicks(y.ticks(6))
      .filter(value => Math.log10(value) % 1 === 0)
      .map(value => ({ at: y(value), label: tickLabel(value) })),
    lines: { averaged: of('averaged'), dropped: of('dropped'), refitted: of('refitted') },
  }
}

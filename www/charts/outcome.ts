import type { PlanReport } from '../engine/protocol/plan'
import type { Quality } from '../engine/protocol/quality'
import { nats, perplexity } from '../ui/format'
import { scaleOf, type Measure } from './curve'
import { logTicks, spaced, tickLabel } from './ticks'

export interface OutcomeMark {
  name: 'original' | 'merged' | 'dropped'
  value: number
  x: number
  y: number
  /** The value in words. */
  label: string
  collapsed: boolean
}

export interface OutcomeChart {
  /** One a row: the original, what became of it, the same layers dropped. */
  marks: OutcomeMark[]
  /** Where the original lies, and where models count as collapsed if that is in the picture. */
  original: number
  collapse: number | null
  xTicks: { value: number; at: number; label: string }[]
}

/** A model beside what it was made from and what dropping would have left, on the scales of `curveChart`. What is not finite lies at the end. */
export function outcomeChart(
  { original, merged, dropped }: PlanReport,
  { width, row, measure }: { width: number; row: number; measure: Measure },
): OutcomeChart {
  const models: [OutcomeMark['name'], Quality][] = [
    ['original', original],
    ['merged', merged],
    ['dropped', dropped],
  ]
  const measured = models.flatMap(([name, quality]) => {
    const value = measure === 'kl' && name === 'original' ? 0 : quality[measure]
    return value === null || Number.isNaN(value) ? [] : [{ name, value, collapsed: quality.collapsed }]
  })
  const x = scaleOf(
    measured.map(each => each.value),
    original.perplexity,
    measure,
    [0, width],
  )
  const words = (value: number) => (measure === 'kl' && Number.isFinite(value) ? nats(value) : perplexity(value))
  const limit = original.perplexity * 10
  const ticks = measure === 'kl' ? x.ticks(4) : logTicks(x.ticks(4))
  return {
    marks: measured.map((each, i) => ({
      ...each,
      x: Number.isFinite(each.value) ? x(each.value) : width,
      y: (i + 0.5) * row,
      label: words(each.value),
    })),
    original: x(measure === 'kl' ? 0 : original.perplexity),
    collapse: measure === 'perplexity' && limit <= (x.domain()[1] ?? 0) ? x(limit) : null,
    xTicks: spaced(
      ticks.map(value => ({ value, at: x(value), label: tickLabel(value) })),
      40,
    ),
  }
}

import { scaleLinear, scaleLog } from 'd3-scale'
import { line } from 'd3-shape'
import type { PlanReport } from '../engine/protocol/plan'
import type { Quality } from '../engine/protocol/quality'
import { logTicks, spaced, verticalTicks } from './ticks'

export type Measure = 'perplexity' | 'kl'

export interface CurvePoint {
  removed: number
  value: number
  x: number
  y: number
  collapsed: boolean
}

export interface CurveChart {
  points: CurvePoint[]
  path: string
  /** Dropping the same layers instead: after each step where that was measured, and at the end. */
  dropped: CurvePoint[]
  droppedPath: string
  /** Heights of the original and of ten times its perplexity, where that is in the picture. */
  original: number
  collapse: number | null
  /** Layers removed, with the bytes of the model that is left where they are known. */
  xTicks: { value: number; at: number; bytes: number | null }[]
  yTicks: { value: number; at: number; label: string }[]
  /** Where so many layers are removed. */
  x(removed: number): number
}

type Measured = { removed: number; value: number; collapsed: boolean }
type Numbers = Pick<Quality, 'collapsed'> & { perplexity: number | null; kl: number | null }

/**
 * What the merges cost, against layers removed. Perplexity is drawn on a logarithmic scale, on which from 7 to
 * 14 is as far as from 70 to 140; KL on a linear one from 0, on which each merge's own cost can be seen.
 */
export function curveChart(
  report: PlanReport,
  { width, height, measure = 'perplexity' }: { width: number; height: number; measure?: Measure },
): CurveChart {
  const {
    original,
    plan: { steps },
  } = report
  const last = steps.length
  const at = (removed: number, quality: Numbers | null): Measured[] => {
    const value = quality?.[measure] ?? (removed === 0 && measure === 'kl' ? 0 : null)
    return value === null || Number.isNaN(value) ? [] : [{ removed, value, collapsed: quality?.collapsed ?? false }]
  }
  const start = at(0, original)
  const merged = [...start, ...steps.flatMap((step, i) => at(i + 1, step))]
  const dropped = [...steps.slice(0, -1).flatMap((step, i) => at(i + 1, step.dropped)), ...at(last, report.dropped)]
  const x = scaleLinear([0, Math.max(1, last)], [0, width])
  const y = scaleOf(
    [...merged, ...dropped].map(p => p.value),
    original.perplexity,
    measure,
    [height, 0],
  )
  const place = (point: Measured): CurvePoint => ({
    ...point,
    x: x(point.removed),
    y: Number.isFinite(point.value) ? y(point.value) : 0,
  })
  const path = line<CurvePoint>()
    .x(p => p.x)
    .y(p => p.y)
  const [points, others] = [merged.map(place), dropped.map(place)]
  const limit = original.perplexity * 10
  const sizes = steps.some(step => typeof step.bytes === 'number')
  const xTicks = Array.from({ length: last + 1 }, (_, value) => ({
    value,
    at: x(value),
    bytes: (value === 0 ? report.bytes.before : steps[value - 1]?.bytes) ?? null,
  }))
  return {
    points,
    path: path(points) ?? '',
    dropped: others,
    droppedPath: others.length > 1 ? (path([...start.map(place), ...others]) ?? '') : '',
    original: y(measure === 'kl' ? 0 : original.perplexity),
    collapse: measure === 'perplexity' && limit <= (y.domain()[1] ?? 0) ? y(limit) : null,
    xTicks: spaced(xTicks, sizes ? 68 : 28),
    yTicks: verticalTicks(measure === 'kl' ? y.ticks(5) : logTicks(y.ticks(5)), y),
    x,
  }
}

/** Logarithmic for perplexity, linear from 0 for KL; it holds all values that are finite. */
export function scaleOf(values: readonly number[], original: number, measure: Measure, range: [number, number]) {
  const finite = values.filter(Number.isFinite)
  const most = Math.max(0, ...finite)
  if (measure === 'kl') return scaleLinear([0, (most || 0.1) * 1.05], range).clamp(true)
  const positive = finite.filter(value => value > 0)
  return scaleLog([Math.min(original, ...positive) * 0.95, Math.max(most, original * 1.5) * 1.05], range).clamp(true)
}

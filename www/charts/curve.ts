import { scaleLinear, scaleLog } from 'd3-scale'
import { line } from 'd3-shape'
import type { PlanReport } from '../engine/protocol'

export interface CurvePoint {
  removed: number
  perplexity: number
  x: number
  y: number
  collapsed: boolean
}

export interface CurveChart {
  points: CurvePoint[]
  path: string
  /** Dropping the same layers instead, at the end of the curve. */
  dropped: CurvePoint
  /** Heights of the original and of ten times it, where that is in the picture. */
  original: number
  collapse: number | null
  xTicks: { value: number; at: number }[]
  yTicks: { value: number; at: number; label: string }[]
}

/** Perplexity against layers removed, on a logarithmic scale: from 7 to 14 is as far as from 70 to 140. */
export function curveChart(report: PlanReport, { width, height }: { width: number; height: number }): CurveChart {
  const { original, dropped } = report
  const measured = report.plan.steps.flatMap((step, i) => (step.perplexity === null ? [] : [{ removed: i + 1, perplexity: step.perplexity, collapsed: step.collapsed }]))
  const values = [{ removed: 0, perplexity: original.perplexity, collapsed: false }, ...measured]
  const all = [...values.map(v => v.perplexity), dropped.perplexity].filter(p => Number.isFinite(p) && p > 0)
  const last = report.plan.steps.length
  const x = scaleLinear([0, Math.max(1, last)], [0, width])
  const y = scaleLog([Math.min(...all) * 0.95, Math.max(Math.max(...all), original.perplexity * 1.5) * 1.05], [height, 0]).clamp(true)
  const place = (v: { removed: number; perplexity: number; collapsed: boolean }): CurvePoint => ({ ...v, x: x(v.removed), y: y(v.perplexity) })
  const points = values.map(place)
  const limit = original.perplexity * 10
  return {
    points,
    path: line<CurvePoint>().x(p => p.x).y(p => p.y)(points) ?? '',
    dropped: place({ removed: last, perplexity: dropped.perplexity, collapsed: dropped.collapsed }),
    original: y(original.perplexity),
    collapse: limit <= (y.domain()[1] ?? 0) ? y(limit) : null,
    xTicks: x.ticks(Math.min(8, Math.max(1, last))).filter(Number.isInteger).map(value => ({ value, at: x(value) })),
    yTicks: spaced(y.ticks(5).map(value => ({ value, at: y(value), label: tickLabel(value) })), 22),
  }
}

/** Powers of ten from 10 000 on as powers, so that a collapse fits beside the axis. */
function tickLabel(value: number): string {
  const power = Math.round(Math.log10(value))
  return power >= 4 ? `10${[...String(power)].map(digit => '⁰¹²³⁴⁵⁶⁷⁸⁹'[Number(digit)]).join('')}` : String(value)
}

/** Ticks with room between them, the lowest kept. */
function spaced<T extends { at: number }>(ticks: T[], room: number): T[] {
  const kept: T[] = []
  for (const tick of ticks) if (!kept.length || Math.abs(kept.at(-1)!.at - tick.at) >= room) kept.push(tick)
  return kept
}

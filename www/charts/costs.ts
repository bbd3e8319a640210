/** What it costs to remove more and more layers: which numbers to measure, how far one can go, and what to say of it. */
import { scaleLinear, scaleSqrt } from 'd3-scale'
import { line } from 'd3-shape'
import type { CompareRow } from '../engine/protocol/compare'
import { bytes, change, nats, percent, perplexity, plural } from '../ui/format'
import { elbow } from './elbow'
import { KL_TICKS, spaced, verticalTicks } from './ticks'

/** A model with so many layers removed, measured on text that it was not fitted to. */
export interface Cost {
  removed: number
  bytes: number
  perplexity: number
  kl: number | null
  /** Share of places, 0 to 1, at which the most likely next word is the same as the original's. */
  agreement: number | null
  collapsed: boolean
}

/** What a comparison measured of one model; null where it could not be made. */
export function costOf({ removed, bytes: size, quality }: CompareRow): Cost | null {
  if (!quality) return null
  const { perplexity: own, kl, top1_agreement: agreement, collapsed } = quality
  return { removed, bytes: size, perplexity: own, kl, agreement, collapsed }
}

/** The model as it is. */
export interface Whole {
  layers: number
  bytes: number
  perplexity: number
}

/** What removing more and more layers costs, and how that was measured. */
export interface CostCurve {
  /** Name of the method. */
  method: string
  /** Name of the text that the models were measured on. */
  text: string
  whole: Whole
  measured: Cost[]
}

/** A curve with where to stop on it, as results carry both. */
export interface SharedCosts extends CostCurve {
  goal: Goal
}

/** Where to stop: before the cost jumps, or while so large a share of next words stays the same. */
export type Goal = 'jump' | number

/** No more than this share of the layers is tried. */
const MOST = 0.75
/** Where less than this share of next words is the same, it is another model. */
export const LEAST_AGREEMENT = 0.75
/** A model with so large a share of the same next words is as good as the original, whatever it cost. */
const UNHARMED = 0.95
/** A first layer that costs more than this is one that the model cannot spare. */
const DEAR = { perplexity: 1.15, agreement: 0.85 }
/** So many models say enough of a curve. */
const MOST_MODELS = 13

/** The most layers that are tried of so many: at least one stays. */
export function mostRemoved(layers: number): number {
  return Math.max(1, Math.min(layers - 1, Math.floor(MOST * layers)))
}

/**
 * Which numbers of layers to measure next: 1, 2 and 4, then twice as many until the goal is missed, then the middle
 * between the last that met the goal and the first that missed it. Nothing once those two are neighbours.
 */
export function nextCounts(costs: readonly Cost[], whole: Whole, goal: Goal): number[] {
  const most = mostRemoved(whole.layers)
  if (costs.length === 0) return [1, 2, 4].filter(count => count <= most)
  if (costs.length >= MOST_MODELS) return []
  const [met, missed] = between(costs, whole, goal)
  if (missed === null) return met < most ? [Math.min(most, 2 * Math.max(met, 1))] : []
  const gap = missed - met - 1
  if (gap <= 0) return []
  return gap <= 2 ? Array.from({ length: gap }, (_, i) => met + 1 + i) : [Math.floor((met + missed) / 2)]
}

/** The largest number of layers that met the goal with all smaller ones, and the next that was measured. */
function between(costs: readonly Cost[], whole: Whole, goal: Goal): [met: number, missed: number | null] {
  const met = reach(costs, whole, goal)
  const beyond = costs.map(cost => cost.removed).filter(removed => removed > met)
  return [met, beyond.length > 0 ? Math.min(...beyond) : null]
}

/** How many layers can go, as far as is known; 0 where the first costs too much already. */
export function reach(costs: readonly Cost[], whole: Whole, goal: Goal): number {
  const sorted = ascending(costs)
  const least = goal === 'jump' ? LEAST_AGREEMENT : goal
  const fails = sorted.findIndex(cost => cost.collapsed || (cost.agreement ?? 0) < least)
  const fit = fails < 0 ? sorted : sorted.slice(0, fails)
  const last = fit.at(-1)?.removed ?? 0
  if (goal !== 'jump' || last === 0) return last
  if (isDear(fit[0]!, whole)) return 0
  const values = Array.from({ length: last }, (_, i) => fit.find(cost => cost.removed === i + 1)?.kl ?? null)
  // A jump from next to nothing to very little is none.
  const unharmed = fit.findLast(cost => (cost.agreement ?? 0) >= UNHARMED)?.removed ?? 0
  return Math.max(elbow(values), unharmed)
}

function isDear({ perplexity, agreement, removed }: Cost, whole: Whole): boolean {
  return removed === 1 && (perplexity > DEAR.perplexity * whole.perplexity || (agreement ?? 0) < DEAR.agreement)
}

const ascending = (costs: readonly Cost[]) => costs.toSorted((a, b) => a.removed - b.removed)

/** What the curve says, in a sentence or two. */
export function verdictOf(costs: readonly Cost[], whole: Whole, goal: Goal): string {
  const sorted = ascending(costs)
  const far = reach(costs, whole, goal)
  const [first] = sorted
  if (!first) return ''
  if (far === 0) {
    const lost = first.agreement === null ? '' : `${percent(1 - first.agreement)} of next words change and `
    return `This model has little to give. Without ${plural(first.removed, 'layer')} ${lost}perplexity is ${change(whole.perplexity, first.perplexity)} the original's. To make it smaller, store it in fewer bits.`
  }
  const cost = sorted.find(each => each.removed === far)!
  const smaller = percent(1 - cost.bytes / whole.bytes)
  const same = cost.agreement === null ? '' : `: ${percent(cost.agreement)} of next words stay the same`
  const next = sorted.find(each => each.removed > far)
  const jump =
    goal === 'jump' && next && next.kl !== null && cost.kl !== null
      ? ` With ${next.removed} removed KL goes from ${nats(cost.kl)} to ${nats(next.kl)}.`
      : ''
  return `${far} of ${whole.layers} layers can go. The file gets ${smaller} smaller and the model ${changes(cost.agreement)}${same}.${jump}`
}

/** How much a model is another one, by the share of next words that are the same. */
export function degreeOf(agreement: number): 'hardly' | 'a little' | 'noticeably' {
  return agreement >= 0.97 ? 'hardly' : agreement >= 0.9 ? 'a little' : 'noticeably'
}

function changes(agreement: number | null): string {
  if (agreement === null) return 'changes'
  const degree = degreeOf(agreement)
  return degree === 'hardly' ? 'hardly changes' : `changes ${degree}`
}

/** What a number of layers gives, for the slider: of a model that was measured, or of the two that it lies between. */
export function costWords(costs: readonly Cost[], whole: Whole, removed: number): string {
  const cost = costs.find(each => each.removed === removed)
  if (removed === 0) return 'The original.'
  if (!cost) return `About ${bytes(bytesAt(costs, whole, removed))}. Not measured.`
  const same = cost.agreement === null ? '' : ` · ${percent(cost.agreement)} of next words the same`
  const kl = cost.kl === null ? '' : ` · KL ${nats(cost.kl)}`
  const collapsed = cost.collapsed ? ' · collapsed' : ''
  return `${bytes(cost.bytes)}, ${percent(1 - cost.bytes / whole.bytes)} smaller${same} · perplexity ${perplexity(cost.perplexity)}${kl}${collapsed}`
}

/** The size of a model of so many layers less: between those of its measured neighbours. */
function bytesAt(costs: readonly Cost[], whole: Whole, removed: number): number {
  const known = [{ removed: 0, bytes: whole.bytes }, ...ascending(costs)]
  if (known.length < 2) return whole.bytes * (1 - removed / whole.layers)
  const scale = scaleLinear(
    known.map(each => each.removed),
    known.map(each => each.bytes),
  )
  return Math.max(0, scale(removed))
}

export interface CostMark {
  cost: Cost
  x: number
  y: number
  /** The cost lies above the picture; the mark is at its upper edge. */
  above: boolean
}

/** A model of another size that is known: the original in fewer bits. */
export interface Beside {
  name: string
  bytes: number
  kl: number
}

export interface CostPlot {
  marks: CostMark[]
  path: string
  others: { name: string; x: number; y: number }[]
  xTicks: { removed: number; at: number; size: string }[]
  yTicks: { at: number; label: string }[]
  /** Where so many layers are removed. */
  x(removed: number): number
}

/** KL is drawn up to so many times that of the furthest model that can be had. */
const CAP = 8

/** KL, on a square-root scale, against layers removed. */
export function costPlot(
  costs: readonly Cost[],
  whole: Whole,
  { width, height, far, beside = [] }: { width: number; height: number; far: number; beside?: readonly Beside[] },
): CostPlot {
  const measured = ascending(costs).filter(cost => cost.kl !== null)
  const most = mostRemoved(whole.layers)
  const x = scaleLinear([0, most], [0, width])
  const reached = measured.find(cost => cost.removed === Math.max(far, 1))?.kl ?? measured[0]?.kl ?? 0
  const finite = measured.map(cost => cost.kl!).filter(Number.isFinite)
  const top = Math.max(0.01, Math.min(Math.max(0, ...finite), CAP * Math.max(reached, 0.01)) * 1.1)
  const y = scaleSqrt([0, top], [height, 0]).clamp(true)
  const marks = measured.map((cost): CostMark => {
    const above = !(cost.kl! <= top)
    return { cost, x: x(cost.removed), y: above ? 0 : y(cost.kl!), above }
  })
  const path = line<{ x: number; y: number }>()
    .x(mark => mark.x)
    .y(mark => mark.y)
  const ticks = Array.from({ length: most + 1 }, (_, removed) => ({
    removed,
    at: x(removed),
    size: bytes(bytesAt(costs, whole, removed)),
  }))
  const least = bytesAt(costs, whole, most)
  const place = scaleLinear([whole.bytes, least], [0, width])
  return {
    marks,
    path: path([{ x: 0, y: height }, ...marks]) ?? '',
    others: beside
      .filter(other => other.bytes <= whole.bytes && other.bytes >= least && other.kl <= top)
      .map(other => ({ name: other.name, x: place(other.bytes), y: y(other.kl) })),
    xTicks: spaced(ticks, 64),
    yTicks: verticalTicks(
      KL_TICKS.filter(value => value <= top),
      y,
    ),
    x,
  }
}

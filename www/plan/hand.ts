/** A plan made by hand: which layers are absorbed, and which are left alone. Pure functions. */
import type { MergePlan, PlanOptions } from '../engine/protocol/plan'

export interface Hand {
  /** Whether the plan is made by hand; otherwise it goes by a rule, and only the locks count. */
  active: boolean
  /** Layers that are absorbed into what is before them, in the order chosen. */
  absorb: readonly number[]
  /** Layers that are never merged, ascending. */
  locked: readonly number[]
  /** A plan from a recipe, to be repeated exactly as it is; any other change ends that. */
  exact: MergePlan | null
}

export const UNTOUCHED: Hand = { active: false, absorb: [], locked: [], exact: null }

/** Layers `first` to `last`. */
function run(first: number, last: number): number[] {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i)
}

/** Whether all from the first to the last of two layers are one layer in this plan. */
export function isMerged({ absorb }: Hand, [a, b]: readonly [number, number]): boolean {
  const [first, last] = [Math.min(a, b), Math.max(a, b)]
  return last > first && run(first + 1, last).every(layer => absorb.includes(layer))
}

/** Why two layers, with all between them, cannot become one; empty where they can. */
export function cannotMerge(hand: Hand, [a, b]: readonly [number, number]): string {
  const [first, last] = [Math.min(a, b), Math.max(a, b)]
  if (first === last) return 'A layer cannot be merged with itself.'
  const held = hand.locked.filter(layer => layer >= first && layer <= last)
  if (held.length === 1) return `Layer ${held[0]} is locked; unlock it first.`
  if (held.length > 1) return `Layers ${held.join(', ')} are locked; unlock them first.`
  return ''
}

/** Makes two layers and all between them one, or takes them apart again. */
export function toggled(hand: Hand, pair: readonly [number, number]): Hand {
  const inside = run(Math.min(...pair) + 1, Math.max(...pair))
  if (isMerged(hand, pair))
    return { ...hand, exact: null, absorb: hand.absorb.filter(layer => !inside.includes(layer)) }
  if (cannotMerge(hand, pair)) return hand
  return { ...hand, exact: null, absorb: [...hand.absorb, ...inside.filter(layer => !hand.absorb.includes(layer))] }
}

/** Locks a layer, or unlocks it. A locked layer takes part in no merge, so those that it was in end. */
export function lockToggled(hand: Hand, layer: number): Hand {
  if (hand.locked.includes(layer)) return { ...hand, locked: hand.locked.filter(other => other !== layer) }
  return {
    ...hand,
    // A repeated plan that merged the layer goes on as the merges that are left of it.
    exact: hand.exact && touches(hand.exact.groups, layer) ? null : hand.exact,
    absorb: (hand.exact ? absorbedBy(hand.exact) : hand.absorb).filter(other => other !== layer && other !== layer + 1),
    locked: [...hand.locked, layer].sort((a, b) => a - b),
  }
}

function touches(groups: readonly (readonly number[])[], layer: number): boolean {
  return groups.some(group => group.length > 1 && group.includes(layer))
}

/** Layers typed with commas between them; null where one is no layer of the model. */
export function parseLayers(text: string, n: number): number[] | null {
  const words = text.split(/[\s,;]+/).filter(word => word !== '')
  if (words.some(word => !/^\d+$/.test(word) || Number(word) >= n)) return null
  return [...new Set(words.map(Number))].sort((a, b) => a - b)
}

/** Exactly these layers locked. */
export function lockedTo(hand: Hand, layers: readonly number[]): Hand {
  const kept = { ...hand, locked: hand.locked.filter(layer => layers.includes(layer)) }
  return layers.reduce((next, layer) => (next.locked.includes(layer) ? next : lockToggled(next, layer)), kept as Hand)
}

/** The layers in runs that each become one. */
export function groupsOf({ absorb, exact }: Pick<Hand, 'absorb' | 'exact'>, n: number): number[][] {
  if (exact) return exact.groups
  const groups: number[][] = []
  for (let layer = 0; layer < n; layer++) {
    if (layer > 0 && absorb.includes(layer)) groups.at(-1)!.push(layer)
    else groups.push([layer])
  }
  return groups
}

/** The same merges without the shares: by the order of its steps, or of its groups where it has none. */
export function absorbedBy({ steps, groups }: MergePlan): number[] {
  if (steps.length > 0) return steps.map(step => step.groups[1][0]!)
  return groups.flatMap(group => group.slice(1))
}

/** What the engine is asked for. */
export function optionsWith(options: PlanOptions, hand: Hand): PlanOptions {
  const locked = [...hand.locked]
  // Fresh lists: those of the page's state cannot cross to the worker.
  if (!hand.active) return { ...options, locked, absorb: [] }
  // Only the rule that compares anew searches for weights.
  const alpha = options.alpha === 'search' ? 'similarity' : options.alpha
  return {
    ...options,
    alpha,
    locked,
    absorb: [...hand.absorb],
    selection: 'hand',
    remove: hand.absorb.length,
    min_similarity: null,
    one_shot: false,
  }
}

import { neighbourChoice, neighbours } from '../charts/neighbours'
import { mergesNeighbours } from '../words/methods'
import type { State } from '../app/state.svelte'
import { absorbedBy, groupsOf } from './hand'

export interface Present {
  groups: number[][]
  /** Layers that are absorbed, in the order of the merges. */
  absorb: number[]
  /** Where they come from: what is being made, was made, was chosen by hand, or is foretold from the matrix. */
  from: 'running' | 'made' | 'hand' | 'foretold' | 'nothing'
}

/** The layers in the runs that become one, as far as is known now. */
export function presentGroups({
  model,
  maps,
  plan,
  planFresh,
  run,
  steps,
  hand: { present: hand },
  planOptions,
}: State): Present {
  const n = model?.layers ?? 0
  const by = (from: Present['from'], absorb: number[]): Present => ({
    from,
    absorb,
    groups: groupsOf({ absorb, exact: null }, n),
  })
  if (run?.kind === 'plan')
    return by(
      'running',
      steps.map(step => step.groups[1][0]!),
    )
  if (plan && planFresh === 'fresh') return by('made', absorbedBy(plan.report.plan))
  if (hand.active) return by('hand', hand.exact ? absorbedBy(hand.exact) : [...hand.absorb])
  if (!maps) return by('nothing', [])
  if (mergesNeighbours(planOptions.selection)) {
    const { similarity, massive } = maps.report
    const chosen = neighbours(
      similarity,
      neighbourChoice(planOptions, hand.locked, maps.report),
      'viridis',
      [0, 1],
      massive,
    ).filter(pair => pair.chosen)
    return by(
      'foretold',
      chosen.toSorted((a, b) => a.rank - b.rank).map(pair => pair.layer + 1),
    )
  }
  return plan ? by('made', absorbedBy(plan.report.plan)) : by('nothing', [])
}

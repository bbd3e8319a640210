import type { Actions } from '../app/actions'
import type { State } from '../app/state.svelte'
import { lockedTo, lockToggled, toggled, UNTOUCHED, type Hand } from './hand'
import { begun, withPlan, redone, undone, type HistoryStep } from './history'
import { presentGroups } from './present'
import { readPlan } from './recipe'

/** Changes the plan by hand, as one step that can be taken back. */
function change(state: State, next: Hand): void {
  if (next !== state.hand.present) state.hand = withPlan(state.hand, next)
}

/** The plan that is shown, as one made by hand. */
export function asByHand(state: State): Hand {
  const { present } = state.hand
  if (present.active && !present.exact) return present
  return { ...present, active: true, exact: null, absorb: presentGroups(state).absorb }
}

/** Merges two layers and all between them, or takes them apart, starting from the plan that is shown. */
export function mergeByHand(state: State, pair: readonly [number, number]): void {
  const start = asByHand(state)
  const next = toggled(start, pair)
  if (next !== start) change(state, next)
}

export function lockLayer(state: State, layer: number): void {
  change(state, lockToggled(state.hand.present, layer))
}

export function lockExactly(state: State, layers: readonly number[]): void {
  change(state, lockedTo(state.hand.present, layers))
}

/** Back to a plan by the rule; locks stay. */
export function goByRule(state: State): void {
  const { active, locked } = state.hand.present
  if (active) change(state, { ...UNTOUCHED, locked })
}

/** The plan that is shown, to be withPlan by hand. */
export function takeOver(state: State): void {
  change(state, asByHand(state))
}

/** No merges yet. */
export function startFromNothing(state: State): void {
  change(state, { ...state.hand.present, active: true, absorb: [], exact: null })
}

export function travel(state: State, where: HistoryStep): void {
  state.hand = where === 'undo' ? undone(state.hand) : redone(state.hand)
}

/** Nothing made by hand fits another model. */
export function startAgain(state: State): void {
  state.hand = begun(UNTOUCHED)
  Object.assign(state.matrix, { view: null, against: null })
}

/** Takes the plan of a recipe, to be measured and written exactly as it is. True when it could be read. */
export async function openRecipe(actions: Actions, file: File): Promise<boolean> {
  const { state } = actions
  try {
    const { plan, options } = await readPlan(file, state.model?.layers ?? 0, state.imatrix)
    change(state, { active: true, absorb: [], locked: options?.locked ?? [], exact: plan })
    state.notice = null
    return true
  } catch (thrown) {
    actions.report(thrown, null)
    return false
  }
}

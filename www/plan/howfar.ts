/** How many layers can go: models with more and more layers removed are made and measured until that is known. */
import type { Actions } from '../app/actions'
import { keyOf } from '../app/keys'
import type { Run, State } from '../app/state.svelte'
import { nextCounts, reach } from '../charts/costs'
import type { CompareOptions, CompareReport } from '../engine/protocol/compare'
import { evaluationOf } from '../text'
import { methodOf } from '../words/methods'
import { storedAs } from '../words/types'
import { goByRule } from './edit'

/** The name by which a comparison knows the method that is chosen. */
function methodName({ methods, planOptions }: State): string {
  return methodOf(methods, planOptions)?.name ?? `${planOptions.selection}+${planOptions.operator}`
}

/** Whether the curve is that of the settings that are chosen. Before the engine has said which methods it knows, none has a name. */
export function costsFresh(state: State): boolean {
  return state.readOnly || state.methods.length === 0 || state.costs?.key === costsKey(state)
}

/** What the costs rest on: layers, method, text to judge on, and how models are stored. */
function costsKey(state: State): string {
  const { maps, choice, planOptions, weighing } = state
  return keyOf([maps?.key, methodName(state), planOptions.seed, choice.evaluation, storedAs(state), ...weighing])
}

/**
 * Measures what removing layers costs, few models first and then closer to where the goal is missed, and chooses the
 * number of layers that is reached. A stop keeps what was measured; another call goes on from there.
 */
export function measureCosts(actions: Actions): Promise<boolean> {
  return actions.during('costs', async run => {
    const { state } = actions
    await actions.ensureMaps(run)
    const { model } = state
    if (!model) return
    const key = costsKey(state)
    const options = {
      methods: [methodName(state)],
      evaluation: await evaluationOf(state),
      seed: state.planOptions.seed,
      output: storedAs(state),
    }
    if (state.costs?.key !== key) {
      const { layers, bytes } = model
      state.costs = {
        key,
        method: methodName(state),
        text: options.evaluation.text_name ?? state.builtin?.evaluation.name ?? '',
        whole: { layers, bytes, perplexity: NaN },
        measured: [],
      }
    }
    try {
      await measureOn(actions, run, options)
      chooseReached(state)
    } finally {
      await actions.safety.keeping.measured()
    }
  })
}

/** Makes and measures models until it is known how far one can go, or the user stops it. */
async function measureOn(actions: Actions, run: Run, options: Omit<CompareOptions, 'remove'>): Promise<void> {
  const { state } = actions
  while (state.costs) {
    const { whole, measured } = state.costs
    const remove = nextCounts(measured, whole, state.goal)
    if (remove.length === 0) break
    // The next numbers of layers go on from what was searched and fitted for these, and so does the plan.
    const report: CompareReport = await actions.call(run, 'compare', [
      { ...options, remove },
      actions.safety.keeping.keeps,
    ])
    const { original, bytes, cancelled, rows, evaluation } = report
    state.costs = {
      ...state.costs,
      text: evaluation.name,
      whole: { layers: whole.layers, bytes, perplexity: original.perplexity },
    }
    if (cancelled) break
    // What cannot be made would be asked for again and again.
    const failed = rows.find(row => row.error)
    if (failed) throw { kind: 'usage', message: failed.error }
  }
}

/** Plans to remove as many layers as the goal allows, where that is known to be any. */
export function chooseReached(state: State): void {
  const { costs, goal } = state
  const far = costs ? reach(costs.measured, costs.whole, goal) : 0
  if (far > 0) chooseRemoved(state, far)
}

/** Plans to remove so many layers by the rule, whatever was chosen before. */
export function chooseRemoved(state: State, remove: number): void {
  goByRule(state)
  state.choice.size = null
  Object.assign(state.planOptions, { remove, min_similarity: null })
}

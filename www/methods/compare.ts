import type { Actions } from '../app/actions'
import { chosenComparison, type Choice } from '../words/methods'
import { keyOf } from '../app/keys'
import { evaluationOf } from '../text'
import { storedAs } from '../words/types'

/**
 * Runs what is chosen and keeps what it gives. A stop keeps the rows that are done; so does a failure, though
 * without a report of what they were measured on.
 */
export function compareMethods(actions: Actions): Promise<boolean> {
  return actions.during('compare', async run => {
    const { state } = actions
    const { options, error } = chosenComparison(state.choice, state.model?.layers ?? 0)
    if (!options) throw { kind: 'usage', message: error }
    await actions.ensureMaps(run)
    const { weighing } = state
    state.rows = []
    try {
      const report = await actions.call(run, 'compare', [
        { ...options, evaluation: await evaluationOf(state, options.evaluation), output: storedAs(state) },
      ])
      Object.assign(state, {
        rows: report.rows,
        comparison: { report, options, key: keyOf([state.maps?.key, options, ...weighing]) },
      })
    } catch (thrown) {
      if (state.rows.length > 0) state.comparison = null
      throw thrown
    }
  })
}

/** Ticked methods stand in the order in which they were ticked. */
export function tick(choice: Choice, name: string, ticked: boolean): void {
  choice.methods = ticked
    ? [...choice.methods.filter(other => other !== name), name]
    : choice.methods.filter(other => other !== name)
}

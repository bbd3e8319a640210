/** Results that are shown without their models: from a file, or from a link. */
import type { Actions } from '../app/actions'
import { forgetResult, linkedResult, wholeAddress } from '../app/address'
import { reach } from '../charts/costs'
import { mostAlike } from '../charts/neighbours'
import { CALIBRATION, PLAN } from '../app/defaults'
import { Failure } from '../engine/errors'
import type { CompareOptions, CompareRow } from '../engine/protocol/compare'
import { keyOf } from '../app/keys'
import { State } from '../app/state.svelte'
import type { Result } from './result'

/** A file that must be a result, or a link as text. */
export async function openResult(actions: Actions, from: File | string): Promise<void> {
  refuseInRun(actions)
  if (typeof from === 'string') {
    const { readLink } = await reading()
    return showResult(actions, await readLink(from), 'a link', from === wholeAddress() ? linkedResult() : null)
  }
  const result = await resultIn(from, from.name)
  if (!result)
    throw new Failure(
      'format',
      `${from.name} holds no result of Laminate. A report, similarity.json, a recipe, or the matrix as CSV or NPY can be opened here.`,
    )
  showResult(actions, result, from.name, null)
}

/** The result that a file holds; null where it is something else. */
export async function resultIn(file: File, name: string): Promise<Result | null> {
  const { readResult } = await reading()
  return readResult(file, name)
}

/** What comes in while a step runs is refused aloud: it would otherwise be lost without a word. */
export const IN_RUN = 'A step is running. Wait for it or cancel it, then open this again.'

/** Refuses what comes in while a step runs. */
export function refuseInRun({ state }: Actions): void {
  if (state.run) throw new Failure('usage', IN_RUN)
}

/** Back to what was there before: nothing of it was touched. */
export function closeResult(actions: Actions): void {
  actions.state.viewing = null
  forgetResult()
  if (!actions.state.device) void actions.start()
}

/** A page's state that holds a result and nothing else. */
export function stateOf({ model, maps, plan, options, comparison, costs, methods }: Result, like: State): State {
  const state = new State()
  const calibration = { ...CALIBRATION, ...maps?.options, text: null }
  const removed = plan
    ? plan.layers.before - plan.layers.after
    : costs
      ? Math.max(1, reach(costs.measured, costs.whole, costs.goal))
      : PLAN.remove
  const planOptions = { ...PLAN, remove: removed, ...options }
  const steps = plan?.plan.steps ?? []
  Object.assign(state, {
    readOnly: true,
    model,
    calibration,
    planOptions,
    steps,
    methods,
    advanced: like.advanced,
    palette: like.palette,
    features: like.features,
    loading: null,
  })
  if (maps)
    Object.assign(state, {
      maps: { report: maps, options: calibration, key: keyOf(calibration) },
      pair: mostAlike(maps.similarity),
    })
  if (plan) state.plan = { report: plan, options: planOptions, key: '' }
  if (costs) Object.assign(state, { costs: { ...costs, key: '' }, goal: costs.goal })
  if (comparison)
    Object.assign(state, {
      rows: comparison.rows,
      comparison: { report: comparison, options: comparedAs(comparison.rows), key: '' },
    })
  return state
}

/** The order of a comparison, from its rows. */
function comparedAs(rows: readonly Pick<CompareRow, 'method' | 'removed' | 'dtype'>[]): CompareOptions {
  return {
    methods: [...new Set(rows.map(row => row.method))],
    remove: [...new Set(rows.map(row => row.removed))],
    dtypes: [...new Set(rows.map(row => row.dtype ?? 'keep'))],
    evaluation: { text: null, text_name: null, samples: 0, tokens: 0 },
    seed: 0,
  }
}

/** Shows a result in place of the stages. `link` is the fragment of the address that it came from; null where it came from elsewhere. */
export function showResult({ state }: Actions, result: Result, from: string, link: string | null): void {
  state.notice = null
  state.viewing = { result, from, link }
  if (!link) forgetResult()
}

/** What reads files and links is loaded when there is one. */
async function reading() {
  const load = Promise.all([import('./read'), import('./link')]).catch(() => {
    throw new Failure('source', 'A part of this page could not be loaded. Reload the page.')
  })
  const [{ readResult }, { readLink }] = await load
  return { readResult, readLink }
}

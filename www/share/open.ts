/** Results that come in: dropped, chosen, or in the address of the page. */
import type { Actions } from '../app/actions'
import { mostAlike } from '../charts/neighbours'
import { CALIBRATION, PLAN } from '../app/defaults'
import { Failure } from '../engine/errors'
import { detectFeatures, preferenceFrom } from '../engine/features'
import type { CompareOptions, CompareRow } from '../engine/protocol/compare'
import type { Opened } from '../engine/source'
import { isImatrix, openImatrix } from '../take/imatrix'
import { ownTask } from '../ui/later'
import { keyOf, State } from '../app/state.svelte'
import { screenAt } from '../words/screens'
import type { Result } from './result'

/** A single file that holds a result is shown, one of importances is used; everything else is opened as a model. */
export async function openAnything(actions: Actions, opened: Opened): Promise<void> {
  refuseInRun(actions)
  const [only, another] = opened.files
  const alone = only && !another && 'file' in only ? only : null
  if (alone && await isImatrix(alone)) return void await openImatrix(actions, alone)
  const result = alone && await (await reading()).readResult(alone.file, alone.name)
  if (result) show(actions, result, only?.name ?? '', null)
  else await actions.open(opened)
}

/** A file that must be a result, or a link as text. */
export async function openResult(actions: Actions, from: File | string): Promise<void> {
  refuseInRun(actions)
  const { readLink, readResult } = await reading()
  if (typeof from === 'string') return show(actions, await readLink(from), 'a link', from === location.href ? location.hash : null)
  const result = await readResult(from, from.name)
  if (!result) throw new Failure('format', `${from.name} holds no result of Laminate. A report, similarity.json, a recipe, or the matrix as CSV or NPY can be opened here.`)
  show(actions, result, from.name, null)
}

/** What comes in while a step runs is refused aloud: it would otherwise be lost without a word. */
export const IN_RUN = 'A step is running. Wait for it or cancel it, then open this again.'

function refuseInRun({ state }: Actions): void {
  if (state.run) throw new Failure('usage', IN_RUN)
}

export const isLinked = (): boolean => location.hash.startsWith('#result=')

/**
 * Starts the page. With a result in the address the engine is not loaded until it is needed: figures open without
 * it. A link that cannot be read leaves the page as it always is, and says why.
 */
export async function startPage(actions: Actions): Promise<void> {
  const { state } = actions
  // Before anything is waited for: whoever clicks first is to get the device that the address asks for.
  Object.assign(state, { features: detectFeatures(), preference: preferenceFrom(location.search) })
  if (!isLinked()) {
    // The engine compiles on all cores; the page is built before.
    await ownTask()
    return actions.start()
  }
  state.loading = null
  await openLinked(actions)
  if (!state.viewing) await actions.start()
}

/**
 * The address has changed without a reload: by a link that was pasted, by Back and Forward, or by a click that leads
 * elsewhere on the page. A result from the address is shown as long as the address says so, or the walk lies over it.
 */
export async function followAddress(actions: Actions): Promise<void> {
  const shown = actions.state.viewing?.link ?? null
  if (isLinked()) {
    if (location.hash !== shown) await openLinked(actions)
  } else if (shown && !screenAt(location.hash)) closeResult(actions)
}

/** The result in the address. */
async function openLinked(actions: Actions): Promise<void> {
  try {
    await openResult(actions, location.href)
  } catch (thrown) {
    forgetLink()
    actions.report(thrown, null)
  }
}

/** An address that no longer says what is shown is put right. */
export function forgetLink(): void {
  if (isLinked()) history.replaceState(null, '', location.pathname + location.search)
}

/** Back to what was there before: nothing of it was touched. */
export function closeResult(actions: Actions): void {
  actions.state.viewing = null
  forgetLink()
  if (!actions.state.device) void actions.start()
}

/** A page's state that holds a result and nothing else. */
export function stateOf({ model, maps, plan, options, comparison, methods }: Result, like: State): State {
  const state = new State()
  const calibration = { ...CALIBRATION, ...maps?.options, text: null }
  const planOptions = { ...PLAN, ...(plan ? { remove: plan.layers.before - plan.layers.after } : {}), ...options }
  const steps = plan?.plan.steps ?? []
  Object.assign(state, { readOnly: true, model, calibration, planOptions, steps, methods, palette: like.palette, features: like.features, loading: null })
  if (maps) Object.assign(state, { maps: { report: maps, options: calibration, key: keyOf(calibration) }, pair: mostAlike(maps.similarity) })
  if (plan) state.plan = { report: plan, options: planOptions, key: '' }
  if (comparison) Object.assign(state, { rows: comparison.rows, comparison: { report: comparison, options: comparedAs(comparison.rows), key: '' } })
  return state
}

/** The order of a comparison, from its rows. */
function comparedAs(rows: readonly Pick<CompareRow, 'method' | 'removed' | 'dtype'>[]): CompareOptions {
  return {
    methods: [...new Set(rows.map(row => row.method))], remove: [...new Set(rows.map(row => row.removed))], dtypes: [...new Set(rows.map(row => row.dtype ?? 'keep'))],
    evaluation: { text: null, text_name: null, samples: 0, tokens: 0 }, seed: 0,
  }
}

/** `link` is the fragment of the address that it came from; null where it came from elsewhere. */
function show({ state }: Actions, result: Result, from: string, link: string | null): void {
  state.notice = null
  state.viewing = { result, from, link }
  if (!link) forgetLink()
}

/** What reads files and links is loaded when there is one. */
async function reading() {
  const load = Promise.all([import('./read'), import('./link')]).catch(() => {
    throw new Failure('source', 'A part of this page could not be loaded. Reload the page.')
  })
  const [{ readResult }, { readLink }] = await load
  return { readResult, readLink }
}

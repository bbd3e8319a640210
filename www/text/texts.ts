/** The texts that are used where the user gives none, as the engine gets them. */
import { Failure } from '../engine/errors'
import type { Calls } from '../engine/messages'
import type { CalibrationOptions } from '../engine/protocol/similarity'
import type { TextOptions } from '../engine/protocol/text'
import type { State } from '../app/state.svelte'
import { quarter } from '../words/methods'
import { fetchProse, USUAL_DEMO, type BuiltIns, type Usual } from './usual'

/** More text than this is no sample; the engine takes as much at most. */
const MOST_TEXT = 64 << 20

/** The text in a file of the user's own. */
export async function readText(file: File): Promise<{ text: string; text_name: string }> {
  if (file.size > MOST_TEXT)
    throw new Failure(
      'limit',
      `${file.name} is larger than 64 MiB, which is more text than is ever run. Cut a part out of it.`,
    )
  return { text: await file.text(), text_name: file.name }
}

/** The calibration as the engine gets it: with the prose in it where no text is given and the model is not the demo. */
export function calibrationOf(state: State): Promise<CalibrationOptions> {
  return withProse(state, state.calibration, 'calibration')
}

/** The text to judge on as the engine gets it. */
export function evaluationOf(state: State, evaluation: TextOptions = state.choice.evaluation): Promise<TextOptions> {
  return withProse(state, evaluation, 'evaluation')
}

async function withProse<O extends { text: string | null; text_name: string | null }>(
  state: State,
  options: O,
  which: keyof BuiltIns,
): Promise<O> {
  if (options.text !== null || state.usual === USUAL_DEMO) return { ...options }
  state.prose ??= await fetchProse()
  return { ...options, text: state.prose[which].text, text_name: state.prose[which].name }
}

/** Begins with what is usual for the model that was opened, unless the user had chosen otherwise. */
export function beginWith(state: State, usual: Usual): void {
  const { calibration, evaluation } = state.usual
  if (isSame(state.calibration, calibration)) Object.assign(state.calibration, usual.calibration)
  if (isSame(state.choice.evaluation, evaluation)) state.choice.evaluation = { ...usual.evaluation }
  state.usual = usual
}

/**
 * Takes as many of the usual sequences as comparing layers and compressing by a quarter of them manage in the usual
 * time: once for each model, and not where the user has chosen otherwise. `within` asks the engine how many that are.
 */
export async function limitSequences(
  state: State,
  within: (...args: Calls['sequencesWithin']['args']) => Promise<number>,
  still: () => boolean = () => true,
): Promise<void> {
  const { usual, model } = state
  if (usual.seconds === null || !model || !isSame(state.calibration, usual.calibration)) return
  const remove = quarter(model.layers)
  const allowed = await within(
    usual.seconds,
    await calibrationOf(state),
    { ...state.chosenPlan, remove, min_similarity: null },
    { ...state.writeOptions },
    await evaluationOf(state),
  )
  if (!still() || state.usual !== usual) return
  const samples = Math.min(usual.calibration.samples, allowed)
  const untouched = isSame(state.calibration, usual.calibration)
  state.usual = { ...usual, calibration: { ...usual.calibration, samples }, seconds: null }
  if (untouched) state.calibration.samples = samples
}

function isSame(a: object, b: object): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}

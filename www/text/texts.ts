/** The texts that are used where the user gives none: the engine's stories for the demo, general prose for any other model. */
import calibration from '../../src/prose/calibration.txt?url'
import evaluation from '../../src/prose/evaluation.txt?url'
import { CALIBRATION, EVALUATION } from '../app/defaults'
import { Failure } from '../engine/errors'
import type { Calls } from '../engine/messages'
import type { ModelReport } from '../engine/protocol/model'
import type { CalibrationOptions, PointRule } from '../engine/protocol/similarity'
import type { TextOptions } from '../engine/protocol/text'
import type { State } from '../app/state.svelte'

export interface BuiltIn {
  name: string
  text: string
}
export interface BuiltIns {
  calibration: BuiltIn
  evaluation: BuiltIn
}

/** As in `src/prose/mod.rs`, whose files these are: a recipe of the page is known by them on the command line. */
export const PROSE_NAMES = {
  calibration: 'Wikipedia articles (WikiText-2, built in)',
  evaluation: 'other Wikipedia articles (WikiText-2, built in)',
}

/** The prose before it was fetched. */
export const UNREAD: BuiltIns = {
  calibration: { name: PROSE_NAMES.calibration, text: '' },
  evaluation: { name: PROSE_NAMES.evaluation, text: '' },
}

/** Settings that a model begins with. */
export interface Usual {
  calibration: CalibrationOptions
  evaluation: TextOptions
  /** How long comparing and compressing may take, where that still has to say how many sequences are used. */
  seconds: number | null
}

/** How long comparing and compressing may take where nothing else is chosen. */
export const LIMIT_SECONDS = 300

export const USUAL_DEMO: Usual = { calibration: CALIBRATION, evaluation: EVALUATION, seconds: null }

/** The same as on the command line (`prose::calibration` and `prose::evaluation` there). */
export function usualOf({ context }: Pick<ModelReport, 'context'>): Usual {
  const tokens = Math.min(256, context)
  const points: PointRule = `tokens:${Math.max(1, Math.min(8, tokens - 1))}`
  return {
    calibration: { ...CALIBRATION, samples: 96, tokens, draw: 'spread', points },
    evaluation: { ...EVALUATION, samples: 32, tokens, draw: 'spread' },
    seconds: LIMIT_SECONDS,
  }
}

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

/** Fetches the prose, which the page does not load before a model is opened. */
async function fetchProse(): Promise<BuiltIns> {
  const [first, second] = await Promise.all([textAt(calibration), textAt(evaluation)])
  return {
    calibration: { name: PROSE_NAMES.calibration, text: first },
    evaluation: { name: PROSE_NAMES.evaluation, text: second },
  }
}

async function textAt(url: string): Promise<string> {
  const answer = await fetch(url).catch(() => null)
  if (!answer?.ok)
    throw new Failure(
      'source',
      'The built-in text could not be loaded from the server of this page. Connect to the network and try again, or give a text of your own under Calibration.',
    )
  return answer.text()
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
  const remove = Math.max(1, Math.round(model.layers / 4))
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

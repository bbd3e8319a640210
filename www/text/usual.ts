/** The texts and settings that a model begins with: the engine's stories for the demo, general prose for any other model. */
import calibration from '../../src/prose/calibration.txt?url'
import evaluation from '../../src/prose/evaluation.txt?url'
import { CALIBRATION, EVALUATION } from '../app/defaults'
import { Failure } from '../engine/errors'
import type { ModelReport } from '../engine/protocol/model'
import type { CalibrationOptions, PointRule } from '../engine/protocol/similarity'
import type { TextOptions } from '../engine/protocol/text'

export interface BuiltInText {
  name: string
  text: string
}
export interface BuiltIns {
  calibration: BuiltInText
  evaluation: BuiltInText
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

/** Fetches the prose, which is not loaded before a model is opened. */
export async function fetchProse(): Promise<BuiltIns> {
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

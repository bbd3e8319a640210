/** Everything that is needed to repeat a compression. Made by `npm run protocol` from src/protocol/; not to be edited. */

import type { HealOptions } from './heal'
import type { ImatrixFile } from './imatrix'
import type { WriteOptions } from './output'
import type { MergePlan, PlanOptions } from './plan'
import type { CalibrationOptions } from './similarity'
import type { TextOptions, TextReport } from './text'

/** Text that a fitted model was judged on, as a recipe knows it again. */
export type JudgingText = {
  /** Name of the text and its sequences; the text itself is left out. */
  options: TextOptions
  /** Hash of the text (`TextOptions::hash`). */
  hash: string
}

/**
 * Everything that is needed to repeat a compression but the model and the texts, which the recipe knows again
 * by their hashes.
 */
export type Recipe = {
  /** Version of this program. */
  laminate: string
  /** Name of the original. */
  model: string
  /** Options of the calibration. */
  calibration: CalibrationOptions
  /** Calibration text. */
  text: TextReport
  /** Options that the plan was made with; `null` for a plan that was made by hand or comes from a recipe. */
  options: PlanOptions | null
  /** Plan that was carried out. */
  plan: MergePlan
  /** How the compressed model was stored. */
  output: WriteOptions
  /**
   * Hash of the calibration text (`TextOptions::hash`); `null` if the model was not calibrated, and in
   * recipes without it.
   */
  text_hash?: string
  /** Text that the fitted model was judged on; `null` if that was the calibration text. */
  judged_on?: JudgingText
  /** Most bytes of the least-squares problems of a span; `null` if nothing was fitted. */
  fit_bytes?: number
  /**
   * Importance matrix that tensors were encoded by; `null` if there was none, or it was collected on the calibration
   * text.
   */
  imatrix?: ImatrixFile
  /** How the model was healed; `null` if it was not. */
  heal?: HealOptions
}

/** Healing, and what it did. Made by `npm run protocol` from src/protocol/; not to be edited. */

import type { Quality } from './quality'
import type { TextReport } from './text'

/** How a compressed model is healed. What is not given is as usual (`HealOptions::default`). */
export type HealOptions = {
  /** Number of tokens to train on, text that is seen again included; `null` if `seconds` says when to end. */
  tokens?: number | null
  /** Time to train for, in seconds; `null` if `tokens` says when to end. */
  seconds?: number | null
  /** Largest rate of Adam, which falls to zero with a cosine. */
  rate?: number
  /** Number of sequences of a step. */
  sequences?: number
  /** Number of times that the model is measured on the text that models are judged on. */
  checks?: number
  /** Seed of the order of the sequences. */
  seed?: number
}

/** State of a model that is being healed, measured on the text that models are judged on. */
export type HealPoint = {
  /** Number of tokens that the model was trained on so far. */
  tokens: number
  /**
   * Mean divergence of the model's next-word distribution from the original's on the text of the steps since the last
   * point, in nats per token; `null` before the first step.
   */
  loss: number | null
  /** Quality of the model as a file would hold it. */
  quality: Quality
  /** Time since the healing began, in seconds. */
  seconds: number
}

/** Report of healing. */
export type HealReport = {
  /** How the model was healed. */
  options: HealOptions
  /** Text that the model was trained on. */
  text: TextReport
  /** Places of the layers that were trained, in the new model. */
  layers: Array<number>
  /** Number of parameters that were trained. */
  parameters: number
  /** Number of tokens that the model was trained on. */
  tokens: number
  /** Measurements, of which the first is of the model before it was healed. */
  points: Array<HealPoint>
  /** Index of the point whose model was kept. */
  best: number
  /** Why the healing ended before it was to, in a sentence; `null` if it did not. */
  stopped: string | null
  /** Wall-clock time in seconds. */
  seconds: number
}

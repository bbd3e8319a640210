/** How much was lost. */

export interface Quality {
  perplexity: number
  /** Null for the original itself. */
  kl: number | null
  top1_agreement: number | null
  collapsed: boolean
}

/** A plan fitted anew with a part of the calibration text, and what it is worth on the text kept for judging. */
export interface CalibrationPoint {
  /** Sequences that it was fitted to, spread over those that there are. */
  sequences: number
  /** Those times the tokens of each. */
  tokens: number
  quality: Quality
  seconds: number
}

/** How much was lost. Made by `npm run protocol` from src/protocol/; not to be edited. */

/** Quality of a model on a text. */
export type Quality = {
  /** Perplexity: `exp` of the mean negative log-likelihood in nats per token. */
  perplexity: number
  /** Mean `KL(original || compressed)` in nats per token; `null` for the original itself. */
  kl: number | null
  /**
   * Share of tokens, 0 to 1, whose most likely successor is that of the original; `null` for the original
   * itself.
   */
  top1_agreement: number | null
  /** Whether the perplexity is above `COLLAPSE_FACTOR` times the original's, or NaN. */
  collapsed: boolean
}

/** Quality of a plan's model that is fitted to part of the calibration text. */
export type CalibrationPoint = {
  /** Number of sequences that the model was fitted to, including those that chose the strength of fits. */
  sequences: number
  /** Number of tokens of these sequences, BOS included. */
  tokens: number
  /** Quality on the text that fitted models are judged on. */
  quality: Quality
  /** Wall-clock time of fitting and measuring in seconds. */
  seconds: number
}

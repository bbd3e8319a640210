/** What a run will take. Made by `npm run protocol` from src/protocol/; not to be edited. */

/** Memory and time of the similarity stage. */
export type Estimate = {
  /**
   * Peak memory in bytes: weights of a layer and the next, activations, attention scores, kept hidden states,
   * kept points, and the distances from which other maps are made.
   */
  peak_bytes: number
  /** Part of the peak memory for weights. */
  layer_bytes: number
  /** Part of the peak memory for hidden states kept between layers. */
  state_bytes: number
  /**
   * Bytes of storage for finished layers, so that an interrupted run can resume: points of every layer,
   * and kept hidden states.
   */
  checkpoint_bytes: number
  /** Floating-point operations of one pass over all layers and the head. */
  flop: number
  /** Time of this pass in seconds, from one layer timed on this device. */
  seconds: number
  /** Number of sequences that the text gives. */
  sequences: number
  /** Number of tokens of all sequences. */
  tokens: number
}

/** Time and memory of a plan: selecting layers, merging them and measuring the result. */
export type PlanEstimate = {
  /** Time in seconds. */
  seconds: number
  /** Peak memory in bytes. */
  peak_bytes: number
}

/** What a run will take. */

export interface Estimate {
  /** Peak memory in bytes, of which weights of one layer, activations and kept states. */
  peak_bytes: number
  layer_bytes: number
  state_bytes: number
  /** Of storage for finished layers, so that an interrupted run can go on. */
  checkpoint_bytes: number
  /** Floating-point operations of one pass over all layers. */
  flop: number
  /** Seconds for the similarity run, from a short measured product on this device. */
  seconds: number
  /** Tokens that will be used, after looking at the text's length. */
  sequences: number
  tokens: number
}

/** Time and memory of a plan: choosing, joining and measuring. */
export interface PlanEstimate {
  seconds: number
  peak_bytes: number
}

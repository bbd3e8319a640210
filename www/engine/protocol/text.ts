/** What is read: the calibration text, and the one that results are measured on. */

/** Which parts of a longer text the sequences are: the first, evenly from all of it, or by lot from a seed. */
export type Draw = 'first' | 'spread' | `random:${number}`

/** A text to measure on. */
export interface TextOptions {
  /** The text itself; null is the built-in evaluation text. */
  text: string | null
  text_name: string | null
  /** Number of sequences. */
  samples: number
  /** Tokens in each, BOS included. */
  tokens: number
  /** `first` where it is not said. */
  draw?: Draw
}

export interface TextReport {
  name: string
  sequences: number
  tokens_per_sequence: number
  /** Tokens scored: all after the first of each sequence. */
  tokens_scored: number
}

/** What is read: the calibration text, and the one that results are measured on. Made by `npm run protocol` from src/protocol/; not to be edited. */

/** Which parts of a longer text the sequences are: the first, evenly from all of the text, or drawn from a seed. */
export type Draw = 'first' | 'spread' | `random:${number}`

/** Built-in text that is used where no text is given. */
export type BuiltIn = 'calibration' | 'evaluation'

/** Options of a text to measure on, and of its sequences. */
export type TextOptions = {
  /** Text; `null` is the built-in text `builtin`. The text is not serialised. */
  text: string | null
  /** Name of the text in reports. */
  text_name: string | null
  /** Number of sequences. */
  samples: number
  /** Number of tokens in each sequence, BOS included. */
  tokens: number
  /** Which parts of the text become sequences. */
  draw?: Draw
  /** Built-in text that is used where `text` is `null`. */
  builtin?: BuiltIn
}

/** A text that something was measured on, and its sequences. */
export type TextReport = {
  /** Name of the text. */
  name: string
  /** Number of sequences cut from the text. */
  sequences: number
  /** Number of tokens in each sequence. */
  tokens_per_sequence: number
  /** Number of tokens scored: all after the first of each sequence. */
  tokens_scored: number
}

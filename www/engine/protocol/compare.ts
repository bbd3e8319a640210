/** Methods side by side. */

import type { DeviceReport } from './device'
import type { ImatrixFile } from './imatrix'
import type { Operator, Selection } from './method'
import type { ModelReport } from './model'
import type { NumberType, WriteOptions } from './output'
import type { Quality } from './quality'
import type { TextOptions, TextReport } from './text'

export interface CompareOptions {
  /** Names of methods, in the order in which they are to be told. */
  methods: string[]
  /** Numbers of layers to remove. */
  remove: number[]
  evaluation: TextOptions
  /** For methods that draw by lot. */
  seed: number
  /** Types in which each model is measured, and the original besides; the model's own where it is not said. */
  dtypes?: NumberType[]
  /** Sizes in bytes for which the best model is named; those of the front where it is not said. */
  sizes?: number[]
  /** How models are stored else. */
  output?: Partial<WriteOptions>
}

/** One method with one number of layers removed, in one type. */
export interface CompareRow {
  method: string
  selection: Selection
  operator: Operator
  /** Absent in results of earlier versions: the model's own. */
  dtype?: NumberType
  removed: number
  /** Layers left. */
  layers: number
  /** Original layer indices per final layer. */
  groups: number[][]
  /** Null where it failed. */
  quality: Quality | null
  /** KL on each sequence of the evaluation text; absent in results of earlier versions. */
  kl_by_sequence?: number[]
  parameters: number
  bytes: number
  seconds: number
  /** Why it failed: one sentence. */
  error: string | null
  warnings: string[]
}

/** The original in another type. */
export interface StoredOriginal {
  dtype: NumberType
  quality: Quality
  kl_by_sequence: number[]
  bytes: number
  seconds: number
}

/** A model that is the best of its size: `original` is the method of one of which no layer was removed. */
export interface Candidate {
  method: string
  dtype: NumberType
  layers: number
  bytes: number
  kl: number
}

/** A difference of KL, paired by sequence, and half the width of its 95 % interval. */
export interface Paired {
  difference: number
  margin: number
}

/** The best models of at most so many bytes. */
export interface Verdict {
  size: number
  merged: Candidate | null
  unmerged: Candidate | null
  /** Of the merged one less the other; null where there is none, or too little text. */
  difference: Paired | null
  sentence: string
}

/** How fast llama.cpp runs one of the models, in tokens a second. */
export interface ModelSpeed extends Pick<Candidate, 'method' | 'dtype' | 'layers'> {
  /** Of reading a prompt, and of writing what follows it. */
  prompt: number
  generation: number
  /** Bytes of the keys and values of 1000 tokens; null where they are not known. */
  cache: number | null
  /** Share, 0 to 1, by which the second fastest round is slower than the fastest: what a difference is worth. */
  noise: number
}

/** What the page measures, and not the engine: each model on one thread of a tab, the fastest of so many rounds. */
export interface Speeds {
  prompt_tokens: number
  generated_tokens: number
  rounds: number
  models: ModelSpeed[]
}

export interface CompareReport {
  model: ModelReport
  calibration: TextReport
  evaluation: TextReport
  /** Share, 0 to 1, of evaluation tokens that were seen in calibration. */
  overlap: number
  original: Quality
  parameters: number
  bytes: number
  seed: number
  /** How the models would be stored; absent in results of earlier versions. */
  output?: WriteOptions
  /** File of importances that types were encoded by; absent where there was none. */
  imatrix?: ImatrixFile
  /** The original in each type that was asked for and is not its own; absent where there is none. */
  originals?: StoredOriginal[]
  rows: CompareRow[]
  /** What is best at each size; absent where one type was asked for. */
  verdicts?: Verdict[]
  /** How fast those models run that the verdicts name; absent where nobody measured it. */
  speeds?: Speeds
  /** The user stopped it; the rows are those that were done. */
  cancelled: boolean
  warnings: string[]
  device: DeviceReport
  seconds: number
  peak_memory_bytes: number
}

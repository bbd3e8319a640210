/** Methods side by side. Made by `npm run protocol` from src/protocol/; not to be edited. */

import type { DeviceReport } from './device'
import type { ImatrixFile } from './imatrix'
import type { Operator, Selection } from './method'
import type { ModelReport } from './model'
import type { NumberType, WriteOptions } from './output'
import type { Quality } from './quality'
import type { TextOptions, TextReport } from './text'

/** Options of a comparison of methods. */
export type CompareOptions = {
  /** Names of the methods. */
  methods: Array<string>
  /** Numbers of layers to remove; every method is measured at every number. */
  remove: Array<number>
  /** Evaluation text, on which the compressed models are measured. */
  evaluation: TextOptions
  /** Seed of random choices. */
  seed: number
  /** How the compressed models would be stored. */
  output?: Partial<WriteOptions>
  /**
   * File types in which every model is measured, and the original besides; if none are listed, only the type of
   * `output`. Quantised types stand for GGUF files, whatever `output` says.
   */
  dtypes?: Array<NumberType>
  /**
   * Sizes in bytes for each of which the best model is named. If none are listed, the sizes of the original in `dtypes`
   * serve.
   */
  sizes?: Array<number>
}

/** Result of one method at one number of removed layers. */
export type CompareRow = {
  /** Name of the method. */
  method: string
  /** Rule by which the method selects layers. */
  selection: Selection
  /** Operator that turns each span into one layer. */
  operator: Operator
  /** File type in which the model would be stored; `null` if each tensor keeps its type. */
  dtype?: NumberType
  /** Number of layers that were to be removed. */
  removed: number
  /** Number of layers of the compressed model. */
  layers: number
  /**
   * For each layer of the compressed model, the indices of the original layers that became this layer;
   * empty if the method failed before it had a plan.
   */
  groups: Array<Array<number>>
  /** Quality of the compressed model on the evaluation text; `null` if the method failed. */
  quality: Quality | null
  /** Mean KL divergence from the original on each sequence of the evaluation text, in nats per token. */
  kl_by_sequence?: Array<number>
  /** Number of parameters of the compressed model. */
  parameters: number
  /** Stored size of the compressed model's tensors in bytes. */
  bytes: number
  /**
   * Wall-clock time of selecting, building and measuring, in seconds. Work that methods share counts for
   * the first of them.
   */
  seconds: number
  /** Reason why the method failed; `null` if it did not fail. */
  error: string | null
  /** Warnings to the reader, in sentences. */
  warnings: Array<string>
}

/** The original in another file type. */
export type StoredOriginal = {
  /** File type. */
  dtype: NumberType
  /** Quality on the evaluation text. */
  quality: Quality
  /** Mean KL divergence from the original as it is on each sequence of the evaluation text, in nats per token. */
  kl_by_sequence: Array<number>
  /** Stored size of the tensors in bytes. */
  bytes: number
  /** Wall-clock time of measuring in seconds. */
  seconds: number
}

/** A model of a comparison that may be the best of its size. */
export type Candidate = {
  /** Name of the method; `original` for the model of which no layer was removed. */
  method: string
  /** File type; without one, each tensor keeps its type. */
  dtype: NumberType
  /** Number of layers. */
  layers: number
  /** Stored size of the tensors in bytes. */
  bytes: number
  /** Mean KL divergence from the original in nats per token. */
  kl: number
}

/** Difference between the KL divergences of two methods from the original, paired by sequence. */
export type Paired = {
  /** Mean difference of the KL divergences in nats per token. */
  difference: number
  /**
   * Half the width of the 95 % confidence interval of `difference` over sequences, by Student's
   * distribution.
   */
  margin: number
}

/** The best models of at most one size. */
export type Verdict = {
  /** Size in bytes that neither model exceeds. */
  size: number
  /** Merged model of least KL divergence; `null` if no merged model is that small. */
  merged: Candidate | null
  /** Unmerged model of least KL divergence; `null` if none is that small. */
  unmerged: Candidate | null
  /** KL divergence of the merged model less that of the unmerged one, paired by sequence; `null` if one is missing. */
  difference: Paired | null
  /** The verdict in words. */
  sentence: string
}

/** Report of several methods, measured on the same text. */
export type CompareReport = {
  /** The original model. */
  model: ModelReport
  /** Calibration text, by which methods select layers and to which operators fit. */
  calibration: TextReport
  /** Evaluation text, on which the compressed models were measured. */
  evaluation: TextReport
  /** Share of the evaluation text that was seen in calibration, 0 to 1. */
  overlap: number
  /** Quality of the original on the evaluation text. */
  original: Quality
  /** Number of parameters of the original. */
  parameters: number
  /** Stored size of the original's tensors in bytes. */
  bytes: number
  /** Seed of random choices. */
  seed: number
  /** How the compressed models were assumed to be stored. */
  output?: WriteOptions
  /**
   * Importance matrix from a file that tensors were encoded by; `null` if there was none, or it was collected on the
   * calibration text.
   */
  imatrix?: ImatrixFile
  /** The original in each file type that was asked for and is not that of its own files. */
  originals?: Array<StoredOriginal>
  /** One row for each file type, method and number of removed layers, in the order asked for. */
  rows: Array<CompareRow>
  /** What is best at each size; empty if only one file type was asked for and no size. */
  verdicts?: Array<Verdict>
  /** Whether the comparison was stopped before its end. */
  cancelled: boolean
  /** Warnings to the reader, in sentences. */
  warnings: Array<string>
  /** Device that ran the comparison. */
  device: DeviceReport
  /** Wall-clock time in seconds. */
  seconds: number
  /** Peak memory of the process in bytes, 0 if it is unknown. */
  peak_memory_bytes: number
}

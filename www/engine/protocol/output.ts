/** How a model is stored, and what was written. */

import type { Container } from './model'

/** Quantised types, in GGUF files only: those of llama-quantize, which give some matrices another type, and others that do not. */
export type QuantisedType =
  | 'q8_0'
  | 'q6_k'
  | 'q5_k_m'
  | 'q5_k_s'
  | 'q5_k'
  | 'q5_1'
  | 'q5_0'
  | 'q4_k_m'
  | 'q4_k_s'
  | 'q4_k'
  | 'iq4_nl'
  | 'iq4_xs'
  | 'q4_1'
  | 'q4_0'
  | 'mxfp4'
  | 'q3_k_l'
  | 'q3_k_m'
  | 'q3_k_s'
  | 'q3_k'
  | 'q2_k'
/** A type for each part of a model, such as `parts:head=q6_k+up=q4_k/q4_k/keep`. */
export type PartTypes = `parts:${string}`
export type NumberType = 'keep' | 'f32' | 'f16' | 'bf16' | QuantisedType | PartTypes

/** Types in which the projections of a Hugging Face folder are packed: a scale for each row, or for each group of so many weights, of the most that fit all of them where no number is said. */
export type PackedType = 'int8' | `${'' | 'gptq-'}int4${'' | '-g128' | '-g64' | '-g32'}`
/** How weights are rounded to such a type, or to that of a GGUF file. */
export type Rounding = 'nearest' | 'gptq' | 'awq' | 'smoothquant'

export interface WriteOptions {
  dtype: NumberType
  /** Type in which the projections of a folder are packed, all else as it is. Not beside another `dtype` than `keep`. */
  pack?: PackedType
  /** How weights are rounded to it; `awq` for `int4`, `gptq` in the layout of GPTQ, and `smoothquant` for 8 bits. In GGUF files `nearest` or `gptq`; `nearest`. */
  rounding?: Rounding
  max_shard_bytes: number
  container: Container
  /** Whether all matrices take the type, or only those that are computed; `all`. */
  requantise?: 'all' | 'computed'
  /** Whether quantised values are encoded by what their columns are multiplied by on the calibration text; true. */
  importances?: boolean
  /** Name of a GGUF file without its ending. */
  name?: string
}

export interface WriteReport {
  files: { name: string; bytes: number }[]
  bytes: { before: number; after: number }
  seconds: number
}

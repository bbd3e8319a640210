/** How a model is stored, and what was written. Made by `npm run protocol` from src/protocol/; not to be edited. */

import type { Container } from './model'
import type { BeforeAfter } from './plan'
import type { Recipe } from './recipe'

/** Quantised file type, for GGUF files only. */
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

/** File type; `keep` is the type that each tensor has. */
export type NumberType = 'keep' | 'f32' | 'f16' | 'bf16' | QuantisedType | PartTypes

/** Type in which the projections of a Hugging Face folder are packed, with the number of weights that share a scale. */
export type PackedType =
  | 'int4'
  | 'int4-g128'
  | 'int4-g64'
  | 'int4-g32'
  | 'gptq-int4'
  | 'gptq-int4-g128'
  | 'gptq-int4-g64'
  | 'gptq-int4-g32'
  | 'int8'

/** How the weights of matrices that are packed or encoded in blocks on request are rounded to their grids. */
export type Rounding = 'nearest' | 'gptq' | 'awq' | 'smoothquant'

/** Which tensors are stored in the file type that is asked for. */
export type Requantise = 'all' | 'computed'

/** Options by which a compressed model is stored. */
export type WriteOptions = {
  /** File type; without one, each tensor keeps its type. */
  dtype: NumberType
  /** Which tensors are stored in the file type. */
  requantise?: Requantise
  /**
   * Type in which the projections of a Hugging Face folder are packed, as compressed-tensors packs them; all else keeps
   * its type. `null` packs nothing anew. Not beside `dtype`.
   */
  pack?: PackedType
  /**
   * How weights are rounded to the grids of `pack`, where `null` is what
   * `usual_rounding` says, or to the nearest without a calibration text; or to those of the blocks of
   * `dtype`, where `null` is to the nearest.
   */
  rounding?: Rounding
  /** Most bytes of tensor data in a shard. */
  max_shard_bytes: number
  /** Kind of file; `null` is that of the original. */
  container: Container | null
  /** Name of a GGUF file without its ending; `null` derives the name from the model's. */
  name?: string | null
  /**
   * Whether quantised tensors that are not copied are encoded by the importances of their columns, where these are known
   * or can be collected on the calibration text.
   */
  importances?: boolean
}

/** A written file. */
export type WrittenFile = {
  /** Name of the file in its folder. */
  name: string
  /** Size of the file in bytes. */
  bytes: number
}

/** Report of a written model. */
export type WriteReport = {
  /** Recipe that is stored with the model, as `recipe.json` or in the metadata of a GGUF file. */
  recipe: Recipe
  /** Files that were written. */
  files: Array<WrittenFile>
  /** Size of the files that hold tensors in bytes. */
  bytes: BeforeAfter
  /** Wall-clock time in seconds. */
  seconds: number
}

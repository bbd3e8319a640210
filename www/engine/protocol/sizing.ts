/** The best model of a size, and how it was found. Made by `npm run protocol` from src/protocol/; not to be edited. */

import type { Paired } from './compare'
import type { NumberType } from './output'
import type { PlanReport } from './plan'
import type { Quality } from './quality'

/** Sizes between which the best model can be found, in bytes of the file, about. */
export type SizeRange = {
  /** Smallest that the model can become. */
  least: number
  /** Size of the model without other types. */
  most: number
}

/** Part of a model whose matrices have one type, but for their depth. */
export type Part = 'embedding' | 'head' | 'query' | 'value' | 'output' | 'up' | 'down'

/** A type and what it costs. */
export type PricedType = {
  /** Name of the type; `null` if the matrices keep theirs. */
  dtype: string | null
  /** Bytes of the matrices of all layers in this type. */
  bytes: number
  /** KL divergence from the original to be expected, in nats per token, where all else is as it is. */
  kl: number
}

/** Matrices of a part of the model, what they cost in each type, and the type that was chosen. */
export type PricedPart = {
  /** Part of the model. */
  part: Part
  /** Third of the layers, from 0; `null` for a part outside the layers. */
  third: number | null
  /** Types that the part can have, from the smallest to the largest. */
  types: Array<PricedType>
  /**
   * Type that was chosen, where the inner `null` keeps the types of the original; `null` if the best model is of a named
   * type, which goes by other rules.
   */
  chosen?: string | null
}

/** What a number of removed layers costs. */
export type MeasuredRemoval = {
  /** Number of removed layers. */
  removed: number
  /** KL divergence from the original in nats per token, where the other layers keep their types. */
  kl: number
}

/** A model that was made and measured. */
export type SizedModel = {
  /** Number of removed layers. */
  removed: number
  /** Number of layers that are left. */
  layers: number
  /** File type; without one, each tensor keeps its type. */
  dtype: NumberType
  /** Bytes of the file. */
  bytes: number
  /** KL divergence that was to be expected, in nats per token; `null` for a file type whose costs are not known. */
  expected_kl: number | null
  /** Quality that was measured. */
  quality: Quality
  /**
   * Mean KL divergence from the original on each sequence of the text that models are judged on, in nats per token;
   * empty where it is not known one by one.
   */
  kl_by_sequence?: Array<number>
}

/** Search for the best model of a size. */
export type SizeSearch = {
  /** Most bytes that the file may have. */
  size: number
  /** Bytes of the file that are not of tensors, about. */
  bytes_beside_tensors: number
  /** What the types of each part of the model cost, and which were chosen. */
  parts: Array<PricedPart>
  /** What numbers of removed layers cost where the others keep their types. */
  removals: Array<MeasuredRemoval>
  /** Models that were made and measured, the best first. */
  models: Array<SizedModel>
  /**
   * KL divergence of the second best less that of the best, paired by sequence; `null` if there is no second, or the
   * divergences are not known one by one.
   */
  difference?: Paired | null
  /** The result in words. */
  sentence: string
}

/** The best model of a size. */
export type SizeReport = {
  /** How the model was found. */
  search: SizeSearch
  /** Plan of the model. */
  plan: PlanReport
}

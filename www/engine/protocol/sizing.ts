/** The best model of a size, and how it was found. */

import type { NumberType } from './output'
import type { PlanReport } from './plan'
import type { Quality } from './quality'

/** Sizes of files between which the best model can be found, in bytes, about. */
export interface SizeRange {
  /** The smallest that the model can become. */
  least: number
  /** Without other types. */
  most: number
}

/** A part of the model, and what it costs in each type. */
export interface PricedPart {
  part: 'embedding' | 'head' | 'query' | 'value' | 'output' | 'up' | 'down'
  /** Third of the layers, from 0; null for what is not in the layers. */
  third: number | null
  /** From the smallest to the largest; a `dtype` of null is its own. */
  types: { dtype: string | null; bytes: number; kl: number }[]
  /** The type that was chosen, null for its own; absent or null where the best model is of a named type. */
  chosen?: string | null
}

/** A model that was made and measured. */
export interface SizedModel {
  removed: number
  layers: number
  dtype: NumberType
  /** Of the file, about. */
  bytes: number
  /** What was to be expected, in nats per token; null where that is not known. */
  expected_kl: number | null
  quality: Quality
}

export interface SizeSearch {
  size: number
  bytes_beside_tensors: number
  parts: PricedPart[]
  /** What removed layers cost where the others keep their types. */
  removals: { removed: number; kl: number }[]
  /** The best first. */
  models: SizedModel[]
  sentence: string
}

export interface SizeReport {
  search: SizeSearch
  plan: PlanReport
}

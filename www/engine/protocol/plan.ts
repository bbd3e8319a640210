/** What is asked of a plan, the plan, and what it is worth. */

import type { DeviceReport } from './device'
import type { ImatrixFile } from './imatrix'
import type { ExpertSelection, Operator, Selection } from './method'
import type { Container } from './model'
import type { NumberType, WriteOptions } from './output'
import type { Quality } from './quality'
import type { TextReport } from './text'

export type Alpha = 'similarity' | 'search' | number

export interface PlanOptions {
  /** Exactly one of the two is set: how many layers to remove, or the similarity below which to stop (`mka` alone). */
  remove: number | null
  min_similarity: number | null
  /** Which layers, `mka`. */
  selection: Selection
  /** What becomes of them, `average`. */
  operator: Operator
  /** For the operators `average` and `match-experts`. */
  alpha: Alpha
  /** For the selection `mka`. */
  one_shot: boolean
  /** Allow layers that write massive activations to be absorbed into their predecessor. */
  release_massive: boolean
  /** Never merge the first / the last layer. */
  keep_first: boolean
  keep_last: boolean
  /** The most layers that may become one, for the selection `mka`; null is any number. */
  longest_run: number | null
  /** Layers that a search tries in each round but the first; null is all. */
  candidates: number | null
  /** For the selection `random`, 0. */
  seed: number
  /** Layers that are never merged. */
  locked: number[]
  /** Layers that never become one with the layer before them; the engine adds those of its model. */
  apart?: number[]
  /** Parts of layers that stay at equal distances, one flag a layer; the engine adds those of its model. */
  periodic?: boolean[][]
  /** For the selection `hand`: the layers that are absorbed into what is before them, in this order. */
  absorb: number[]
  /** Experts to remove from each layer that has experts, 0; where some are, `remove` may be 0. */
  remove_experts?: number
  /** Which of them, `reap`. */
  expert_selection?: ExpertSelection
}

/** One step of the plan. `merged` are indices in the model as it is before the step. */
export interface MergeStep {
  merged: [number, number]
  /** Original layers in each of the two. */
  groups: [number[], number[]]
  alpha: number
  similarity: number
  /** Layers left after the step. */
  layers: number
  perplexity: number | null
  /** Mean KL(original || compressed) in nats per token. */
  kl: number | null
  top1_agreement: number | null
  collapsed: boolean
  /** Dropping the same layers so far, where that was measured. */
  dropped: Quality | null
  /** Of the model after the step. */
  bytes: number | null
}

export interface MergePlan {
  n_layers: number
  operator: Operator
  steps: MergeStep[]
  /** Original layer indices per final layer. */
  groups: number[][]
  /** Same shape as `groups`: the weight of each original layer in the final one; each sums to 1. */
  weights: number[][]
  /** For each original layer the experts that stay, ascending, and none where it has none; absent where all stay. */
  kept_experts?: number[][]
}

/** What went of the experts of one original layer that stays. */
export interface RemovedExperts {
  layer: number
  removed: number[]
  /** Share of the layer's gates on the calibration text that they had; null where that was not seen. */
  share: number | null
}

export interface StoredSize {
  container: Container
  dtype: NumberType
  bytes: number
  /** Types of the matrices, that of the most parameters first. */
  elements: string[]
}

export interface PlanReport {
  plan: MergePlan
  /** What quality was measured on: a text kept for judging where the operator fits to activations, else the calibration text. */
  text: TextReport
  original: Quality
  /** After all steps. */
  merged: Quality
  /** Keeping the first layer of each group and dropping the others, for comparison. */
  dropped: Quality
  /** How the result was assumed to be stored when it was measured. */
  output: WriteOptions
  /** File of importances that types were encoded by; absent where there was none. */
  imatrix?: ImatrixFile
  /** Why the plan ended before what was asked, if it did; and other remarks. */
  warnings: string[]
  /** Experts that are removed; absent where all stay. */
  experts?: RemovedExperts[]
  layers: { before: number; after: number }
  parameters: { before: number; after: number }
  bytes: { before: number; after: number }
  /** Sizes of the result in every kind of file and type that can hold it; absent in reports of older versions. */
  sizes?: StoredSize[]
  device: DeviceReport
  seconds: number
  peak_memory_bytes: number
}

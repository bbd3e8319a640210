/** What is asked of a plan, the plan, and what it is worth. Made by `npm run protocol` from src/protocol/; not to be edited. */

import type { DeviceReport } from './device'
import type { HealReport } from './heal'
import type { ImatrixFile } from './imatrix'
import type { ExpertSelection, Operator, Selection } from './method'
import type { Container } from './model'
import type { NumberType, WriteOptions } from './output'
import type { Quality } from './quality'
import type { TextReport } from './text'

/** Share of the first of two merged layers. */
export type Alpha = 'similarity' | 'search' | number

/** Options of a plan: what may be merged, and until when. */
export type PlanOptions = {
  /**
   * Number of layers to remove; 0 for a model that is only stored otherwise or loses experts. Exactly one of `remove` and `min_similarity` is set; both may be unset for
   * `Selection::Hand`.
   */
  remove: number | null
  /** Similarity below which no pair is merged. */
  min_similarity: number | null
  /** Rule that chooses the layers to absorb. */
  selection: Selection
  /** Operator that turns a span into one layer. */
  operator: Operator
  /** Share of the first of two merged layers, for operators that average (`Operator::averages`). */
  alpha: Alpha
  /** Whether all pairs are taken from the first similarity matrix, without new captures between merges. */
  one_shot: boolean
  /** Whether layers that write massive activations may be absorbed into their predecessor. */
  release_massive: boolean
  /** Whether the first layer takes part in no merge. */
  keep_first: boolean
  /** Whether the last layer takes part in no merge. */
  keep_last: boolean
  /**
   * Largest number of original layers that may become one layer, if neighbours are merged
   * (`Selection::merges_neighbours`); `null` allows any number. With every layer of a span, averages get worse and
   * fits need more memory.
   */
  longest_run: number | null
  /** Layers that take part in no merge: nothing absorbs them, and they stay unchanged. */
  locked: Array<number>
  /**
   * Layers that never become one with the layer before them, because the two are of different kinds. A session adds
   * those of its model.
   */
  apart?: Array<number>
  /**
   * Parts of layers that stay at equal distances, each with one flag a layer that says whether the layer has it. The
   * layers to remove are then one of the sets after which they do (see `periodic`). A session adds
   * those of its model.
   */
  periodic?: Array<Array<boolean>>
  /** For `Selection::Hand`: the layers to be absorbed into the layer before them, in this order. */
  absorb: Array<number>
  /** Seed of `Selection::Random`. */
  seed: number
  /**
   * Number of calibration tokens on which searching rules try each removal: the first sequences that
   * together have no more, but at least one sequence.
   */
  search_tokens?: number
  /**
   * Number of layers that a searching rule tries in each round but the first: the layers that did least
   * harm when they were last tried. `null` tries all layers.
   */
  candidates: number | null
  /** Number of experts to remove from each layer that has experts. */
  remove_experts?: number
  /** Rule that chooses the experts. */
  expert_selection?: ExpertSelection
}

/** One merge of two neighbouring layers. */
export type MergeStep = {
  /** Indices `[l, l + 1]` of the two layers, in the model before this step. */
  merged: [number, number]
  /** Original layers that each of the two layers consists of. */
  groups: [Array<number>, Array<number>]
  /** Share of the first layer, in 0..=1. */
  alpha: number
  /** Similarity of the two layers when they were chosen. */
  similarity: number
  /** Number of layers after the step. */
  layers: number
  /** Perplexity after the step; `null` if it was not measured. */
  perplexity: number | null
  /** Mean `KL(original || merged)` in nats per token; `null` if it was not measured. */
  kl: number | null
  /** Share of tokens, 0 to 1, whose most likely successor did not change; `null` if it was not measured. */
  top1_agreement: number | null
  /** Whether the perplexity is more than ten times the original's. */
  collapsed: boolean
  /**
   * Quality of the model from which the layers absorbed so far are dropped instead; `null` if it was not
   * measured.
   */
  dropped: Quality | null
  /** Bytes of the model's tensors after the step; `null` if they were not counted. */
  bytes: number | null
}

/**
 * Assignment of original layers to final layers.
 *
 * For operators that mix weights, the final layer at index `g` is
 * `sum_i weights[g][i] * theta(groups[g][i])`, for every tensor of the layer. For other operators, the
 * weights say which layer of the group stays. The steps say how the groups came about: merging two layers
 * with share `alpha` multiplies the weights of the first by `alpha` and those of the second by `1 - alpha`.
 */
export type MergePlan = {
  /** Number of layers of the original model. */
  n_layers: number
  /** Operator that turns each group into one layer. */
  operator: Operator
  /** Merges in the order in which they happen; may be empty in a plan written by hand. */
  steps: Array<MergeStep>
  /** Original layer indices of each final layer: `0..n_layers` in order, cut into spans. */
  groups: Array<Array<number>>
  /**
   * Weight of each original layer in its final layer, in the shape of `groups`. Weights are in 0..=1 (any
   * finite number for `Operator::Collapse`) and sum to 1 in each group. If the operator does not
   * average, the layer that stays has the weight 1.
   */
  weights: Array<Array<number>>
  /**
   * For each original layer, the experts that stay if the layer does, ascending: as many in each layer that has
   * experts, and none in other layers. Empty if all experts stay. Steps are measured with all experts.
   */
  kept_experts?: Array<Array<number>>
}

/** Experts that are removed from a layer. */
export type RemovedExperts = {
  /** Layer of the original. */
  layer: number
  /** Numbers of the experts that go, ascending. */
  removed: Array<number>
  /**
   * Share of the layer's gates, summed over the calibration text, that these experts had, 0 to 1; `null` if it was not
   * seen.
   */
  share: number | null
}

/** Size of a model in one kind of file and file type. */
export type StoredSize = {
  /** Kind of file. */
  container: Container
  /** File type; without one, each tensor keeps its type. */
  dtype: NumberType
  /** Stored size of all tensors in bytes. */
  bytes: number
  /** Element types of the matrices, the one with most parameters first. */
  elements: Array<string>
}

/** A number before and after compression. */
export type BeforeAfter = {
  /** Number for the original. */
  before: number
  /** Number for the compressed model. */
  after: number
}

/** A plan and its effect on the model, measured before anything is written. */
export type PlanReport = {
  /** The plan, with the quality after each step. */
  plan: MergePlan
  /** Text that quality was measured on. */
  text: TextReport
  /** Quality of the original. */
  original: Quality
  /** Quality of the compressed model, after all steps. */
  merged: Quality
  /** Quality of the model that keeps the first layer of each group and drops the other layers. */
  dropped: Quality
  /** Experts that are removed from the layers that stay; empty if all experts stay. */
  experts?: Array<RemovedExperts>
  /** Warnings to the reader, in sentences. */
  warnings: Array<string>
  /** Number of decoder layers. */
  layers: BeforeAfter
  /** Number of parameters of all tensors. */
  parameters: BeforeAfter
  /** Stored size of all tensors in bytes: of the original as it is, of the compressed model as in `output`. */
  bytes: BeforeAfter
  /** How the compressed model was assumed to be stored. */
  output: WriteOptions
  /**
   * Importance matrix from a file that tensors were encoded by; `null` if there was none, or it was collected on the
   * calibration text.
   */
  imatrix?: ImatrixFile
  /** Sizes of the compressed model in every kind of file and file type that can hold it. */
  sizes?: Array<StoredSize>
  /** How the model was healed; `null` if it was not. */
  healed?: HealReport
  /** Device that ran the stages. */
  device: DeviceReport
  /** Wall-clock time in seconds. */
  seconds: number
  /** Peak memory of the process in bytes, 0 if it is unknown. */
  peak_memory_bytes: number
}

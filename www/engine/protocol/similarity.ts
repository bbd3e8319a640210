/** What the layers are compared by, and how alike they are. */

import type { DeviceReport } from './device'
import type { ModelReport } from './model'
import type { Draw, TextReport } from './text'

export type PointRule = 'last' | 'mean' | `tokens:${number}`
export type Metric = 'mi' | 'cosine' | 'angular' | 'euclidean' | 'mahalanobis' | 'cka' | 'tsne' | 'autoencoder'

/** Options of the similarity stage; every field has the default given. */
export interface CalibrationOptions {
  /** The text itself; null is the built-in text. */
  text: string | null
  /** What to call the text in reports. */
  text_name: string | null
  /** Number of sequences, 128. */
  samples: number
  /** Tokens in each sequence, BOS included, 48. */
  tokens: number
  /** 'first'. */
  draw: Draw
  points: PointRule
  metric: Metric
  /** Diffusion map dimensions, 2. */
  dims: number
  /** Diffusion time, 1. */
  time: number
  /** Density exponent, 0. */
  density: number
  normalise: 'rms' | 'none'
  /** Fixed bandwidth, or null for the median rule. */
  bandwidth: number | null
  /** Neighbours of the mutual-information estimator, 5. */
  neighbours: number
}

export interface PointReport {
  sequence: number
  /** Position in the sequence, -1 for a mean over positions. */
  position: number
  /** Some characters of text before and including the point. */
  text: string
  /** The point's own token, with which the text ends; empty for a mean, missing in results of earlier versions. */
  token?: string
}

export interface SimilarityReport {
  model: ModelReport
  layers: number
  points: { rule: PointRule; count: number }
  point_list: PointReport[]
  metric: Metric
  dims: number
  options: CalibrationOptions
  text: TextReport
  epsilon: number[]
  /** Leading eigenvalues of each layer, lambda_0 = 1 first. */
  eigenvalues: number[][]
  /** Nats; empty for metrics other than `mi`. */
  mutual_information: number[][]
  similarity: number[][]
  /** Per layer, N points of `dims` coordinates; signs fixed and neighbours aligned for pictures. */
  embedding: number[][][]
  block_influence: number[]
  /** Layers that write a massive activation: protected from being absorbed. */
  massive: number[]
  /** Layers whose graph is nearly disconnected (lambda_1 > 0.9). */
  disconnected: number[]
  /** Perplexity of the model as it is, on the same sequences. */
  perplexity: number
  warnings: string[]
  device: DeviceReport
  seconds: number
  peak_memory_bytes: number
}

/** Similarities by another metric, of the same captured states. */
export interface MetricReport {
  metric: Metric
  similarity: number[][]
  /** Nats; empty for metrics other than `mi`. */
  mutual_information: number[][]
}

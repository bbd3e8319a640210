/** What the layers are compared by, and how alike they are. Made by `npm run protocol` from src/protocol/; not to be edited. */

import type { DeviceReport } from './device'
import type { ModelReport } from './model'
import type { Draw, TextReport } from './text'

/** Measure of the similarity of two layers. */
export type Metric = 'mi' | 'cosine' | 'angular' | 'euclidean' | 'mahalanobis' | 'cka' | 'tsne' | 'autoencoder'

/** Normalisation of each point before any other computation. */
export type Normalise = 'rms' | 'none'

/** Options of the similarity stage. */
export type CalibrationOptions = {
  /** Calibration text; `null` is the built-in text. Recipes leave the text out. */
  text: string | null
  /** Name of the text in reports. */
  text_name: string | null
  /** Number of sequences. */
  samples: number
  /** Number of tokens in each sequence, BOS included. */
  tokens: number
  /** Which parts of the text become sequences. */
  draw: Draw
  /** Which hidden states of a sequence are points. */
  points: PointRule
  /** Metric of the similarity of two layers. */
  metric: Metric
  /** Number of dimensions of the diffusion map. */
  dims: number
  /** Diffusion time. */
  time: number
  /** Density exponent of the diffusion map. */
  density: number
  /** Whether points are divided by their root mean square. */
  normalise: Normalise
  /**
   * Fixed kernel bandwidth; `null` means the median of the squared distances between the points of each
   * layer.
   */
  bandwidth: number | null
  /** Number of neighbours of the mutual-information estimator. */
  neighbours: number
}

/** Rule that chooses the hidden states of a sequence that are points. */
export type PointRule = 'last' | 'mean' | `tokens:${number}`

/** Rule and number of the points. */
export type PointsReport = {
  /** Rule as the command line writes it. */
  rule: PointRule
  /** Number of points, N. */
  count: number
}

/** Origin of a point. */
export type PointReport = {
  /** Index of the point's sequence. */
  sequence: number
  /** Position in the sequence, -1 for a mean over positions. */
  position: number
  /**
   * Text before the point, up to and including its token; for a mean over positions, the beginning of the
   * sequence.
   */
  text: string
  /** Text of the point's own token, with which `text` ends; empty for a mean over positions. */
  token?: string
}

/** Result of the similarity stage. Matrices are lists of rows. */
export type SimilarityReport = {
  /** Model whose layers were compared. */
  model: ModelReport
  /** Number of decoder layers, L. */
  layers: number
  /** Rule and number of the points. */
  points: PointsReport
  /** Origin of each point. */
  point_list: Array<PointReport>
  /** Name of the metric of `similarity`. */
  metric: Metric
  /** Number of dimensions of the diffusion map. */
  dims: number
  /** Options of the stage, without the text itself. */
  options: CalibrationOptions
  /** The calibration text. */
  text: TextReport
  /** Kernel bandwidth of each layer. */
  epsilon: Array<number>
  /** Leading eigenvalues of each layer's diffusion map, `lambda_0` first. */
  eigenvalues: Array<Array<number>>
  /** Mutual information of each pair of layers in nats, `[layers, layers]`; empty for other metrics. */
  mutual_information: Array<Array<number>>
  /** Similarity of each pair of layers, `[layers, layers]`, 0 to 1, with 1 on the diagonal. */
  similarity: Array<Array<number>>
  /**
   * Coordinates of each layer's diffusion map, one row for each point, aligned between neighbouring layers
   * for pictures.
   */
  embedding: Array<Array<Array<number>>>
  /** Block Influence of each layer, `1 - E cos(x_in, x_out)`. */
  block_influence: Array<number>
  /** Indices of the layers that write a massive activation. */
  massive: Array<number>
  /** Indices of the layers whose graph of points is nearly disconnected. */
  disconnected: Array<number>
  /** Perplexity of the original on the calibration text. */
  perplexity: number
  /** Warnings that a reader should know before believing the numbers. */
  warnings: Array<string>
  /** Device that ran the stage. */
  device: DeviceReport
  /** Wall-clock time in seconds. */
  seconds: number
  /** Peak memory of the process in bytes, 0 if it is unknown. */
  peak_memory_bytes: number
}

/** Similarities by another metric than that of the similarity stage. Matrices are lists of rows. */
export type MetricReport = {
  /** Name of the metric. */
  metric: Metric
  /** Similarity of each pair of layers, `[layers, layers]`. */
  similarity: Array<Array<number>>
  /** Mutual information of each pair of layers in nats; empty if the metric is not mutual information. */
  mutual_information: Array<Array<number>>
}

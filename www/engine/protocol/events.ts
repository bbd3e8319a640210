/** What the engine tells while it works, and how it is stopped. */

import type { CompareRow } from './compare'
import type { MergeStep } from './plan'
import type { CalibrationPoint } from './quality'

/** The last three are the page's own: a model writes text, its speed is measured, and files are sent to a hub. */
export type Stage =
  'read' | 'capture' | 'similarity' | 'plan' | 'evaluate' | 'write' | 'check' | 'continue' | 'time' | 'send'

export interface Progress {
  stage: Stage
  done: number
  total: number
  /** What `done` and `total` count. */
  unit: 'layers' | 'bytes' | 'tokens' | 'rows' | 'parts' | 'models' | 'runs'
  /** For example "layer 12 of 32". */
  detail: string
}

/** Sent as soon as a layer of the similarity run is done, so that the heatmap fills in. */
export interface LayerDone {
  layer: number
  layers: number
  /** Similarity to layers 0..=layer; the last entry is the diagonal. Empty for metrics that need all layers. */
  row: number[]
  epsilon: number
  eigenvalues: number[]
  embedding: number[][]
}

/** Optional, during `plan`: sent as soon as a merge is done and measured, so that bands fuse as the plan grows. */
export interface StepDone {
  step: MergeStep
}

/** During `compare`: sent as soon as a method has been measured, or has failed. */
export interface RowDone {
  row: CompareRow
}

/** During `calibrationCurve`: sent as soon as the plan fitted with so much text has been measured. */
export interface SizeDone {
  size: CalibrationPoint
}

/** During `similarity`: how much of it would survive the end of the page, now. */
export interface Kept {
  /** Layers from the first one on that are kept. */
  layers: number
  /** Bytes written for that by this call. */
  bytes: number
  /** Why less is kept than could be, in a clause, when that is found out. */
  trouble: string | null
}

export type EngineEvent = { progress: Progress } | { layer: LayerDone } | StepDone | RowDone | SizeDone | { kept: Kept }
export type Observe = (event: EngineEvent) => Promise<boolean>

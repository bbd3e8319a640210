/** What the engine tells while it works. Made by `npm run protocol` from src/protocol/; not to be edited. */

import type { CompareRow } from './compare'
import type { HealPoint } from './heal'
import type { MergeStep } from './plan'
import type { CalibrationPoint } from './quality'

/** A stage of the work, in the order of the data flow. */
export type Stage = 'read' | 'capture' | 'similarity' | 'plan' | 'evaluate' | 'heal' | 'write' | 'check'

/** Unit in which progress is counted. */
export type Unit = 'layers' | 'bytes' | 'rows' | 'tokens' | 'parts' | 'models'

/** Progress of a stage: `done` of `total` in `unit`. */
export type Progress = {
  /** Stage that is running. */
  stage: Stage
  /** Amount that is done. */
  done: number
  /** Amount of the whole stage. */
  total: number
  /** Unit of `done` and `total`. */
  unit: Unit
  /** Progress in words, such as "layer 12 of 32". */
  detail: string
}

/** Result of the similarity stage for one layer, sent as soon as it is known. */
export type LayerDone = {
  /** Index of the layer. */
  layer: number
  /** Number of layers of the model. */
  layers: number
  /** Similarity of this layer to the layers `0..=layer`; empty for a metric that needs all layers first. */
  row: Array<number>
  /** Bandwidth of the kernel of the diffusion map. */
  epsilon: number
  /** Leading eigenvalues of the diffusion map, `lambda_0` first. */
  eigenvalues: Array<number>
  /** Coordinates of the diffusion map, one row for each point. */
  embedding: Array<Array<number>>
}

/** What a run that is killed now could resume from. */
export type Kept = {
  /** Number of finished layers that are kept, from the first layer on. */
  layers: number
  /** Bytes that this run has written to keep layers. */
  bytes: number
  /**
   * Reason, in a clause, why fewer layers are kept than possible; set in the event that reports it, `null`
   * otherwise.
   */
  trouble: string | null
}

/** Event that an `Observer` is told of. */
export type EngineEvent =
  | { progress: Progress }
  | { layer: LayerDone }
  | { step: MergeStep }
  | { row: CompareRow }
  | { size: CalibrationPoint }
  | { heal: HealPoint }
  | { kept: Kept }

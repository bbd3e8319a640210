/** Methods side by side. */

import type { DeviceReport } from './device'
import type { Operator, Selection } from './method'
import type { ModelReport } from './model'
import type { Quality } from './quality'
import type { TextOptions, TextReport } from './text'

export interface CompareOptions {
  /** Names of methods, in the order in which they are to be told. */
  methods: string[]
  /** Numbers of layers to remove. */
  remove: number[]
  evaluation: TextOptions
  /** For methods that draw by lot. */
  seed: number
}

/** One method with one number of layers removed. */
export interface CompareRow {
  method: string
  selection: Selection
  operator: Operator
  removed: number
  /** Layers left. */
  layers: number
  /** Original layer indices per final layer. */
  groups: number[][]
  /** Null where it failed. */
  quality: Quality | null
  parameters: number
  bytes: number
  seconds: number
  /** Why it failed: one sentence. */
  error: string | null
  warnings: string[]
}

export interface CompareReport {
  model: ModelReport
  calibration: TextReport
  evaluation: TextReport
  /** Share, 0 to 1, of evaluation tokens that were seen in calibration. */
  overlap: number
  original: Quality
  parameters: number
  bytes: number
  seed: number
  rows: CompareRow[]
  /** The user stopped it; the rows are those that were done. */
  cancelled: boolean
  warnings: string[]
  device: DeviceReport
  seconds: number
  peak_memory_bytes: number
}

/**
 * The engine as the page calls it. What crosses between the two is described in this folder, one subject a file,
 * types only. The files are made from `src/protocol/` by `npm run protocol`, but for `engine.ts`, `error.ts` and
 * `files.ts`. The same JSON is printed by `laminate ... --json`. Matrices are arrays of rows. Layers are 0-based indices
 * of decoder layers.
 */

import type { CompareOptions, CompareReport } from './compare'
import type { DeviceReport } from './device'
import type { Estimate, PlanEstimate } from './estimate'
import type { EngineEvent } from './events'
import type { ByteSource, OutputFolder, PartStore } from './files'
import type { HealOptions } from './heal'
import type { UsedImatrix } from './imatrix'
import type { MapOptions } from './maps'
import type { NamedMethod } from './method'
import type { ModelReport } from './model'
import type { WriteOptions, WriteReport } from './output'
import type { MergePlan, PlanOptions, PlanReport } from './plan'
import type { CalibrationPoint } from './quality'
import type { SizeRange, SizeReport } from './sizing'
import type { CalibrationOptions, Metric, MetricReport, SimilarityReport } from './similarity'
import type { TextOptions } from './text'

/** Gets events; its promise resolves after a macrotask with `true` where the user asked to stop. */
export type Observe = (event: EngineEvent) => Promise<boolean>

/** The map of a layer, turned onto the run's picture of it. */
export interface LayerMap {
  layer: number
  epsilon: number
  /** lambda_0 = 1 first. */
  eigenvalues: number[]
  /** lambda_1 > 0.9 */
  disconnected: boolean
  dims: number
  /** Point after point, `dims` numbers each. */
  coordinates: Float64Array
}

/**
 * The engine as the wasm module exports it (class `Engine`, made by `Engine.create`). It runs in the
 * worker. Every call rejects with an `EngineError`-shaped object. `observe` gets events; its promise resolves after a macrotask with
 * `true` where the user asked to stop.
 */
export interface WasmEngine {
  device(): DeviceReport
  /** `weights` is the file `src/demo/model.safetensors.planes`. */
  openDemo(weights: Uint8Array): Promise<ModelReport>
  /** `name` is the opened folder's, where there is one; an engine may ignore it. */
  open(files: ByteSource[], name?: string): Promise<ModelReport>
  /** Finished layers of the open model wait in `store`, which nothing else uses, until they are measured or written. */
  spillTo(store: PartStore): void
  /** Importances of the open model from a whole file, instead of those that are collected; refused where they are of another. */
  useImatrix(name: string, bytes: Uint8Array): UsedImatrix
  /** Collects importances again. */
  forgetImatrix(): void
  /** After `similarity`: the file of importances of the model of a plan. */
  imatrixOf(plan: MergePlan, output: WriteOptions, observe: Observe): Promise<Uint8Array>
  estimate(options: CalibrationOptions): Promise<Estimate>
  /** What `plan` would take after `similarity` with these options. */
  estimatePlan(
    calibration: CalibrationOptions,
    plan: PlanOptions,
    output: WriteOptions,
    judge: TextOptions,
  ): Promise<PlanEstimate>
  /** What `compare` would take after `similarity` with these options. */
  estimateCompare(calibration: CalibrationOptions, options: CompareOptions): Promise<PlanEstimate>
  /** As many sequences of the text as both together manage in so many seconds: a few at least, no more than there are. */
  sequencesWithin(
    seconds: number,
    calibration: CalibrationOptions,
    plan: PlanOptions,
    output: WriteOptions,
    judge: TextOptions,
  ): Promise<number>
  /** Goes on from what `kept` holds of the same run, and keeps there what it finishes. */
  similarity(options: CalibrationOptions, observe: Observe, kept?: PartStore): Promise<SimilarityReport>
  /** After `similarity`, whose report it leaves as it is: maps of some layers with other parameters. */
  mapLayers(options: MapOptions): LayerMap[]
  /** Refuses what the files of the open model cannot hold; else what they will not hold, in sentences. */
  checkOutput(output: WriteOptions): Promise<string[]>
  /**
   * After `similarity` (whose options it shares) on the same model; measured as `output` will store it. Where the
   * operator fits to activations it is measured on the text of `judge`, which calibration must not have seen, and
   * only after the last step. What it finishes is kept in `kept`, and the same plan goes on after that.
   */
  plan(
    options: PlanOptions,
    observe: Observe,
    output: WriteOptions,
    judge: TextOptions,
    kept?: PartStore,
  ): Promise<PlanReport>
  /** Sizes of GGUF files between which `bestOfSize` finds the best model. */
  sizeRange(plan: PlanOptions, output: WriteOptions): Promise<SizeRange>
  /** What `bestOfSize` would take after `similarity`. */
  estimateSize(
    calibration: CalibrationOptions,
    plan: PlanOptions,
    output: WriteOptions,
    judge: TextOptions,
  ): Promise<PlanEstimate>
  /**
   * After `similarity`: the best model whose GGUF file has at most so many bytes. With a `remove` of null it says how many layers
   * go, too. Its plan is then the last, to be written with the `output` of its report.
   */
  bestOfSize(
    size: number,
    options: PlanOptions,
    observe: Observe,
    output: WriteOptions,
    judge: TextOptions,
    kept?: PartStore,
  ): Promise<SizeReport>
  /** After `similarity`: the layers compared by another metric. What plans rest on stays as it is. */
  similarityBy(metric: Metric, observe: Observe): Promise<MetricReport>
  /** After `similarity`: measures a plan that exists already, on the same text as `plan` does; each step of it where its weights say all. */
  measure(
    plan: MergePlan,
    observe: Observe,
    output: WriteOptions,
    judge: TextOptions,
    kept?: PartStore,
  ): Promise<PlanReport>
  /**
   * After `similarity`: trains the merged layers of the plan towards the original's next-word distribution, and measures the
   * model on the text of `judge` meanwhile. A stop keeps the best model so far. What is written of the plan is then healed.
   */
  heal(
    plan: MergePlan,
    output: WriteOptions,
    options: HealOptions,
    observe: Observe,
    judge: TextOptions,
    kept?: PartStore,
  ): Promise<PlanReport>
  /**
   * After `similarity`: fits the given plan anew with so many of the calibration sequences each, ascending and spread
   * over those that there are, and measures each result on the text of `judge`. A stop leaves the points that came.
   */
  calibrationCurve(
    plan: MergePlan,
    sizes: number[],
    observe: Observe,
    output: WriteOptions,
    judge: TextOptions,
  ): Promise<CalibrationPoint[]>
  /** Writes the model of the given plan (of the last `plan`, or edited). */
  write(plan: MergePlan, options: WriteOptions, folder: OutputFolder, observe: Observe): Promise<WriteReport>
  methods(): NamedMethod[]
  /**
   * After `similarity`. A method that fails is a row that says so; a stop resolves with the rows that are done. What the last
   * model was made of is kept in `kept`.
   */
  compare(options: CompareOptions, observe: Observe, kept?: PartStore): Promise<CompareReport>
  /** The built-in calibration text. */
  builtinText(): { name: string; text: string }
  /** The built-in evaluation text, which is another one. */
  builtinEvaluation(): { name: string; text: string }
}

/**
 * What crosses between the page and the engine. Types only.
 *
 * The report types mirror `src/report.rs` field by field: the same JSON is printed by
 * `laminate ... --json`. Matrices are arrays of rows. Layers are 0-based indices of decoder layers.
 */

/** Who must act; the same names as `Error::kind` in `src/error.rs`. */
export type ErrorKind =
  | 'source' | 'format' | 'unsupported' | 'shape' | 'numeric' | 'device' | 'limit' | 'usage' | 'cancelled' | 'internal'

export interface EngineError {
  kind: ErrorKind
  /** One sentence that names the file, tensor or layer and says what to do. */
  message: string
}

export type DevicePreference = 'auto' | 'gpu' | 'cpu'

export interface DeviceReport {
  kind: 'gpu' | 'software-gpu' | 'cpu'
  /** Adapter name as the driver gives it, or "CPU (wasm SIMD)". */
  name: string
  /** Why this device was chosen, in words. */
  reason: string
  /** Largest storage-buffer binding in bytes; 0 on the CPU. */
  max_binding_bytes: number
}

export interface ModelReport {
  name: string
  architecture: string
  layers: number
  hidden_size: number
  intermediate_size: number
  heads: number
  kv_heads: number
  head_dim: number
  vocab_size: number
  /** Longest context in tokens that the config declares. */
  context: number
  parameters: number
  parameters_per_layer: number
  /** Bytes of all tensors. */
  bytes: number
  bytes_per_layer: number
  /** Dtype of the layers' matrices, e.g. "F16"; "mixed" where they differ. */
  dtype: string
  /** Types of all tensors, that of the most bytes first. */
  dtypes: string[]
  tied_head: boolean
  sliding_window: number | null
  /** What it was read from. */
  container: Container
  /** Files that were recognised and will be read or copied. */
  files: string[]
}

export type PointRule = 'last' | 'mean' | `tokens:${number}`
export type Metric = 'mi' | 'cosine' | 'angular' | 'euclidean' | 'mahalanobis' | 'cka'
/** Which parts of a longer text the sequences are: the first, evenly from all of it, or by lot from a seed. */
export type Draw = 'first' | 'spread' | `random:${number}`

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

export type Alpha = 'similarity' | 'search' | number

/** Which layers go; documented in `src/plan/method.rs`. */
export type Selection = 'mka' | 'redundancy' | 'bi' | 'angular' | 'pairs' | 'greedy-nll' | 'greedy-kl' | 'laco' | 'tail' | 'reverse' | 'random' | 'hand'
/** What becomes of a run of layers that turns into one; documented there too. */
export type Operator = 'drop' | 'average' | 'laco' | 'scale' | 'replaceme' | 'flatten' | 'refit' | 'pool-refit'

/** A method that has a name: a selection and an operator. */
export interface NamedMethod {
  name: string
  title: string
  selection: Selection
  operator: Operator
  one_shot: boolean
  /** What it asks of plans, as in `PlanOptions`. */
  longest_run: number | null
  candidates: number | null
  /** One sentence, with its source. */
  about: string
}

export interface PlanOptions {
  /** Exactly one of the two is set: how many layers to remove, or the similarity below which to stop (`mka` alone). */
  remove: number | null
  min_similarity: number | null
  /** Which layers, `mka`. */
  selection: Selection
  /** What becomes of them, `average`. */
  operator: Operator
  /** For the operator `average`. */
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
  /** For the selection `hand`: the layers that are absorbed into what is before them, in this order. */
  absorb: number[]
}

/** What kind of file holds a model: those of a Hugging Face folder, or llama.cpp's. */
export type Container = 'safetensors' | 'gguf'

/** llama.cpp's quantised types that can be written, in GGUF files only. */
export type BlockType = 'q8_0' | 'q6_k' | 'q5_k' | 'q4_k' | 'q5_1' | 'q5_0' | 'q4_1' | 'q4_0'
export type NumberType = 'keep' | 'f32' | 'f16' | 'bf16' | BlockType

export interface WriteOptions {
  dtype: NumberType
  max_shard_bytes: number
  container: Container
  /** Name of a GGUF file without its ending. */
  name?: string
}

export interface Estimate {
  /** Peak memory in bytes, of which weights of one layer, activations and kept states. */
  peak_bytes: number
  layer_bytes: number
  state_bytes: number
  /** Of storage for finished layers, so that an interrupted run can go on. */
  checkpoint_bytes: number
  /** Floating-point operations of one pass over all layers. */
  flop: number
  /** Seconds for the similarity run, from a short measured product on this device. */
  seconds: number
  /** Tokens that will be used, after looking at the text's length. */
  sequences: number
  tokens: number
}

/** Time and memory of a plan: choosing, joining and measuring. */
export interface PlanEstimate {
  seconds: number
  peak_bytes: number
}

export interface TextReport {
  name: string
  sequences: number
  tokens_per_sequence: number
  /** Tokens scored: all after the first of each sequence. */
  tokens_scored: number
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

/** Which maps are wanted, and with what parameters. */
export interface MapOptions {
  /** In the order in which the maps are to come. */
  layers: number[]
  /** A multiple, above 0, of the bandwidth that the run used in each layer. */
  bandwidth: number
  /** 0 to 1. */
  density: number
  time: number
  /** Exact enough for a picture, and several times faster. */
  sketch: boolean
  /** Leading eigenvalues, if more are wanted than come with a map. Not for sketches. */
  eigenvalues?: number
}

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
}

export interface Quality {
  perplexity: number
  /** Null for the original itself. */
  kl: number | null
  top1_agreement: number | null
  collapsed: boolean
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
  /** Why the plan ended before what was asked, if it did; and other remarks. */
  warnings: string[]
  layers: { before: number; after: number }
  parameters: { before: number; after: number }
  bytes: { before: number; after: number }
  device: DeviceReport
  seconds: number
  peak_memory_bytes: number
}

/** A text to measure on. */
export interface TextOptions {
  /** The text itself; null is the built-in evaluation text. */
  text: string | null
  text_name: string | null
  /** Number of sequences. */
  samples: number
  /** Tokens in each, BOS included. */
  tokens: number
}

/** A plan fitted anew with a part of the calibration text, and what it is worth on the text kept for judging. */
export interface CalibrationPoint {
  /** Sequences that it was fitted to, spread over those that there are. */
  sequences: number
  /** Those times the tokens of each. */
  tokens: number
  quality: Quality
  seconds: number
}

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

export interface WriteReport {
  files: { name: string; bytes: number }[]
  bytes: { before: number; after: number }
  seconds: number
}

/** The last one is the page's own: a model writes text. */
export type Stage = 'read' | 'capture' | 'similarity' | 'plan' | 'evaluate' | 'write' | 'check' | 'continue'

export interface Progress {
  stage: Stage
  done: number
  total: number
  /** What `done` and `total` count. */
  unit: 'layers' | 'bytes' | 'tokens' | 'rows'
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

export type EngineEvent = { progress: Progress } | { layer: LayerDone } | StepDone | RowDone | SizeDone | { kept: Kept }

/** During `similarity`: how much of it would survive the end of the page, now. */
export interface Kept {
  /** Layers from the first one on that are kept. */
  layers: number
  /** Bytes written for that by this call. */
  bytes: number
  /** Why less is kept than could be, in a clause, when that is found out. */
  trouble: string | null
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

/** Bytes that the engine may read in ranges: a `File` wrapped by the worker. */
export interface ByteSource {
  /** Path relative to the opened folder, with `/`. */
  readonly name: string
  readonly size: number
  read(offset: number, length: number): Promise<Uint8Array>
}

/** Where a finished model goes, file after file. */
export interface OutputFolder {
  /** Begins a file; at most one is open. */
  create(name: string): Promise<void>
  write(bytes: Uint8Array): Promise<void>
  close(): Promise<void>
  /** Size of a closed file in bytes. */
  size(name: string): Promise<number>
  /** Reads back from a closed file. */
  read(name: string, offset: number, length: number): Promise<Uint8Array>
  /** All files are there and checked: make them visible under their final names. */
  commit(): Promise<void>
  /** Something failed or was cancelled: leave nothing behind. */
  abort(): Promise<void>
}

/** Named parts that outlive a run: `PartStore` of `src/sink/parts.rs`. */
export interface PartStore {
  /** Begins a part; at most one is open. It has its name when it is closed. */
  create(name: string): Promise<void>
  write(bytes: Uint8Array): Promise<void>
  close(): Promise<void>
  names(): Promise<string[]>
  size(name: string): Promise<number>
  read(name: string, offset: number, length: number): Promise<Uint8Array>
  /** A part that is not there is no error. */
  remove(name: string): Promise<void>
}

/**
 * The engine as the wasm module exports it (class `Engine`, made by `Engine.create`). It runs in the
 * worker. Every call rejects with an `EngineError`-shaped object. `observe` gets events; its promise resolves after a macrotask with
 * `true` where the user asked to stop.
 */
export interface WasmEngine {
  device(): DeviceReport
  openDemo(): Promise<ModelReport>
  /** `name` is the opened folder's, where there is one; an engine may ignore it. */
  open(files: ByteSource[], name?: string): Promise<ModelReport>
  estimate(options: CalibrationOptions): Promise<Estimate>
  /** What `plan` would take after `similarity` with these options. */
  estimatePlan(calibration: CalibrationOptions, plan: PlanOptions, judge: TextOptions): Promise<PlanEstimate>
  /** What `compare` would take after `similarity` with these options. */
  estimateCompare(calibration: CalibrationOptions, options: CompareOptions): Promise<PlanEstimate>
  /** As many sequences of the text as both together manage in so many seconds: a few at least, no more than there are. */
  sequencesWithin(seconds: number, calibration: CalibrationOptions, plan: PlanOptions, judge: TextOptions): Promise<number>
  /** Goes on from what `kept` holds of the same run, and keeps there what it finishes. */
  similarity(options: CalibrationOptions, observe: Observe, kept?: PartStore): Promise<SimilarityReport>
  /** After `similarity`, whose report it leaves as it is: maps of some layers with other parameters. */
  mapLayers(options: MapOptions): LayerMap[]
  /**
   * After `similarity` (whose options it shares) on the same model; measured as `output` will store it. Where the
   * operator fits to activations it is measured on the text of `judge`, which calibration must not have seen, and
   * only after the last step. What it finishes is kept in `kept`, and the same plan goes on after that.
   */
  plan(options: PlanOptions, observe: Observe, output: WriteOptions, judge: TextOptions, kept?: PartStore): Promise<PlanReport>
  /** After `similarity`: the layers compared by another metric. What plans rest on stays as it is. */
  similarityBy(metric: Metric): Promise<MetricReport>
  /** After `similarity`: measures a plan that exists already, on the same text as `plan` does; each step of it where its weights say all. */
  measure(plan: MergePlan, observe: Observe, output: WriteOptions, judge: TextOptions, kept?: PartStore): Promise<PlanReport>
  /**
   * After `similarity`: fits the given plan anew with so many of the calibration sequences each, ascending and spread
   * over those that there are, and measures each result on the text of `judge`. A stop leaves the points that came.
   */
  calibrationCurve(plan: MergePlan, sizes: number[], observe: Observe, output: WriteOptions, judge: TextOptions): Promise<CalibrationPoint[]>
  /** Writes the model of the given plan (of the last `plan`, or edited). */
  write(plan: MergePlan, options: WriteOptions, folder: OutputFolder, observe: Observe): Promise<WriteReport>
  methods(): NamedMethod[]
  /** After `similarity`. A method that fails is a row that says so; a stop resolves with the rows that are done. */
  compare(options: CompareOptions, observe: Observe): Promise<CompareReport>
  /** The built-in calibration text. */
  builtinText(): { name: string; text: string }
  /** The built-in evaluation text, which is another one. */
  builtinEvaluation(): { name: string; text: string }
}
export type Observe = (event: EngineEvent) => Promise<boolean>

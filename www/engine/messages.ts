/** What the page and the worker say to each other. Types only. */

import type { CompareOptions, CompareReport } from './protocol/compare'
import type { DevicePreference, DeviceReport } from './protocol/device'
import type { EngineError } from './protocol/error'
import type { Estimate, PlanEstimate } from './protocol/estimate'
import type { EngineEvent } from './protocol/events'
import type { HealOptions } from './protocol/heal'
import type { UsedImatrix } from './protocol/imatrix'
import type { LayerMap } from './protocol/engine'
import type { MapOptions } from './protocol/maps'
import type { NamedMethod } from './protocol/method'
import type { ModelReport } from './protocol/model'
import type { WriteOptions, WriteReport } from './protocol/output'
import type { MergePlan, PlanOptions, PlanReport } from './protocol/plan'
import type { CalibrationPoint } from './protocol/quality'
import type { SizeRange, SizeReport } from './protocol/sizing'
import type { CalibrationOptions, Metric, MetricReport, SimilarityReport } from './protocol/similarity'
import type { TextOptions } from './protocol/text'
import type { Moved } from './meter'

/** A file on the user's disk. The handle crosses to the worker; its bytes are read there, in ranges. */
export interface LocalFile {
  /** Path relative to the opened folder, with `/`. */
  name: string
  file: File
}

/** A file on a server that the user named. */
export interface RemoteFile {
  name: string
  url: string
  /** As the list of files says, where there is one; the file itself must agree. */
  size?: number
  /** Only for a file of the server that the token was given for. Memory only, never stored. */
  token?: string
  /** May be missing. */
  optional?: boolean
}

export type OpenedFile = LocalFile | RemoteFile

export type WriteTarget =
  /** `folder` is a new, empty one in `parent`. */
  | { kind: 'directory'; parent: FileSystemDirectoryHandle; folder: FileSystemDirectoryHandle }
  /** The one file of the model, where the user wants it. */
  | { kind: 'file'; file: FileSystemFileHandle }
  /** A folder of the browser's private storage, which needs room for so many bytes. */
  | { kind: 'private'; job: string; needed_bytes: number }

/** Whether finished layers are kept, and whether the run goes on from those that are. */
export type KeepingMode = 'continue' | 'anew' | 'off'

/** Every call: the arguments that cross, and the answer. */
export interface Calls {
  /** The second says what is wrong with the graphics device, where the page has found that out. */
  create: { args: [DevicePreference, string?]; result: DeviceReport }
  openDemo: { args: []; result: ModelReport }
  open: { args: [OpenedFile[], string | undefined]; result: ModelReport }
  estimate: { args: [CalibrationOptions]; result: Estimate }
  useImatrix: { args: [LocalFile]; result: UsedImatrix }
  forgetImatrix: { args: []; result: void }
  imatrixOf: { args: [MergePlan, WriteOptions]; result: Uint8Array<ArrayBuffer> }
  estimatePlan: { args: [CalibrationOptions, PlanOptions, WriteOptions, judge: TextOptions]; result: PlanEstimate }
  estimateCompare: { args: [CalibrationOptions, CompareOptions]; result: PlanEstimate }
  sequencesWithin: {
    args: [seconds: number, CalibrationOptions, PlanOptions, WriteOptions, judge: TextOptions]
    result: number
  }
  similarity: { args: [CalibrationOptions, KeepingMode?]; result: SimilarityReport }
  similarityBy: { args: [Metric]; result: MetricReport }
  mapLayers: { args: [MapOptions]; result: LayerMap[] }
  checkOutput: { args: [WriteOptions]; result: string[] }
  /** `keeps`: what it finishes outlives the page. */
  plan: { args: [PlanOptions, WriteOptions, judge: TextOptions, keeps?: boolean]; result: PlanReport }
  sizeRange: { args: [PlanOptions, WriteOptions]; result: SizeRange }
  estimateSize: { args: [CalibrationOptions, PlanOptions, WriteOptions, judge: TextOptions]; result: PlanEstimate }
  bestOfSize: {
    args: [size: number, PlanOptions, WriteOptions, judge: TextOptions, keeps?: boolean]
    result: SizeReport
  }
  measure: { args: [MergePlan, WriteOptions, judge: TextOptions, keeps?: boolean]; result: PlanReport }
  heal: {
    args: [MergePlan, WriteOptions, HealOptions, judge: TextOptions, keeps?: boolean]
    result: PlanReport
  }
  calibrationCurve: { args: [MergePlan, sizes: number[], WriteOptions, judge: TextOptions]; result: CalibrationPoint[] }
  methods: { args: []; result: NamedMethod[] }
  compare: { args: [CompareOptions, keeps?: boolean]; result: CompareReport }
  write: { args: [MergePlan, WriteOptions, WriteTarget]; result: WriteReport }
  /** What was written into the private storage as one file to download, called `name` if it has to be a zip. */
  pack: { args: [job: string, name: string]; result: File }
  builtinText: { args: []; result: { name: string; text: string } }
  builtinEvaluation: { args: []; result: { name: string; text: string } }
}

export type CallName = keyof Calls

export type Request = { [K in CallName]: { id: number; call: K; args: Calls[K]['args'] } }[CallName]

export type ToWorker = Request | { cancel: number } | { hold: boolean }

export type FromWorker =
  | { id: number; result: unknown }
  | { id: number; error: EngineError }
  | { id: number; event: EngineEvent; moved?: Moved }
  /** A call waits, as it was asked to. */
  | { held: true }
  /** The graphics device is gone, and why, in the browser's words. No call will be answered. */
  | { lost: string }

/** The side of a worker that either end talks to; `Worker`, `MessagePort` and the worker's own scope fit. */
export interface Port<Out, In> {
  postMessage(message: Out): void
  onmessage: ((event: MessageEvent<In>) => void) | null
}

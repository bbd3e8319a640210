/** What the page and the worker say to each other. Types only. */

import type {
  CalibrationOptions, DevicePreference, DeviceReport, EngineError, EngineEvent, Estimate, MergePlan,
  ModelReport, PlanOptions, PlanReport, SimilarityReport, WriteOptions, WriteReport,
} from './protocol'

/** A file the user opened. The handle crosses to the worker; its bytes are read there, in ranges. */
export interface OpenedFile {
  /** Path relative to the opened folder, with `/`. */
  name: string
  file: File
}

export type WriteTarget =
  /** `folder` is a new, empty one in `parent`. */
  | { kind: 'directory'; parent: FileSystemDirectoryHandle; folder: FileSystemDirectoryHandle }
  /** The browser's private storage, then one zip there called `name`.zip. */
  | { kind: 'zip'; job: string; name: string; expected_bytes: number }

export interface Written {
  report: WriteReport
  /** The zip, on disk, for a zip target. */
  zip: File | null
}

/** Every call: the arguments that cross, and the answer. */
export interface Calls {
  create: { args: [DevicePreference]; result: DeviceReport }
  openDemo: { args: []; result: ModelReport }
  open: { args: [OpenedFile[], string | undefined]; result: ModelReport }
  estimate: { args: [CalibrationOptions]; result: Estimate }
  similarity: { args: [CalibrationOptions]; result: SimilarityReport }
  plan: { args: [PlanOptions]; result: PlanReport }
  write: { args: [MergePlan, WriteOptions, WriteTarget]; result: Written }
  builtinText: { args: []; result: { name: string; text: string } }
}

export type CallName = keyof Calls

export type Request = { [K in CallName]: { id: number; call: K; args: Calls[K]['args'] } }[CallName]

export type ToWorker = Request | { cancel: number }

export type FromWorker =
  | { id: number; result: unknown }
  | { id: number; error: EngineError }
  | { id: number; event: EngineEvent }

/** The side of a worker that either end talks to; `Worker`, `MessagePort` and the worker's own scope fit. */
export interface Port<Out, In> {
  postMessage(message: Out): void
  onmessage: ((event: MessageEvent<In>) => void) | null
}

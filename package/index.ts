/** What the package `laminate-engine` gives: an engine in a worker, what it reports, and how it fails. */
import { Engine, type EngineOptions } from './engine'

export { Engine } from './engine'
export type { CompressOptions, EngineOptions, LayersOptions, StepOptions, WriteModelOptions } from './engine'
export { Failure } from '../www/engine/errors'
export type { RemoteFile } from '../www/engine/messages'
export type { DevicePreference, DeviceReport } from '../www/engine/protocol/device'
export type { EngineError, ErrorKind } from '../www/engine/protocol/error'
export type { LayerDone, Progress } from '../www/engine/protocol/events'
export type { ModelReport } from '../www/engine/protocol/model'
export type { WriteOptions } from '../www/engine/protocol/output'
export type { MergePlan, PlanOptions, PlanReport } from '../www/engine/protocol/plan'
export type { Quality } from '../www/engine/protocol/quality'
export type { CalibrationOptions, Metric, SimilarityReport } from '../www/engine/protocol/similarity'

/** Starts an engine in a worker, on the device that is asked for. */
export function openEngine(options: EngineOptions = {}): Promise<Engine> {
  return Engine.in(
    () => new Worker(new URL('../www/engine/worker.ts', import.meta.url), { type: 'module', name: 'laminate-engine' }),
    options,
  )
}

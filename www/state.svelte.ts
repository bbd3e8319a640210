import type { Failure } from './engine/errors'
import type { Features } from './engine/features'
import type { Written } from './engine/messages'
import type {
  CalibrationOptions, DevicePreference, DeviceReport, EngineError, Estimate, MergeStep, ModelReport,
  PlanOptions, PlanReport, SimilarityReport, WriteOptions,
} from './engine/protocol'
import type { Opened } from './engine/source'
import type { Palette } from './charts/colour'
import type { Tick } from './progress'
import { CALIBRATION, PLAN, WRITE } from './defaults'
import { stageStates, type Facts, type Freshness } from './stages'

export type RunKind = NonNullable<Facts['running']>

export interface Run {
  kind: RunKind
  controller: AbortController
  /** First tick of the present engine stage, and the latest. */
  first: Tick | null
  last: Tick | null
  cancelling: boolean
}

/** Something to say above the stages: an error, or that a run was cancelled. */
export interface Notice {
  error: EngineError | Failure
  /** Does the same again on the CPU, where that could help. */
  retryOnCpu: (() => void) | null
}

/** A matrix that fills in. */
export interface Live {
  layers: number
  rows: number[][]
  embedding: number[][][]
}

/** A result and the settings it was made with. */
export interface Made<T, O> {
  report: T
  key: string
  options: O
}

export interface Saved extends Written {
  /** Where it went: a folder's name, or the zip's address in this page. */
  folder: string | null
  url: string | null
  job: string | null
}

/** All that the page knows. Views read it, `actions.ts` changes it. */
export class State {
  features = $state.raw<Features | null>(null)
  preference = $state<DevicePreference>('auto')
  device = $state.raw<DeviceReport | null>(null)
  /** How much of the engine has arrived, in words, until it runs. */
  loading = $state<string | null>('Loading the engine')

  model = $state.raw<ModelReport | null>(null)
  origin = $state.raw<'demo' | Opened | null>(null)

  calibration = $state<CalibrationOptions>({ ...CALIBRATION })
  estimate = $state.raw<Estimate | null>(null)
  estimateError = $state.raw<EngineError | null>(null)
  builtinText = $state.raw<{ name: string; text: string } | null>(null)

  live = $state.raw<Live | null>(null)
  maps = $state.raw<Made<SimilarityReport, CalibrationOptions> | null>(null)

  planOptions = $state<PlanOptions>({ ...PLAN })
  steps = $state.raw<MergeStep[]>([])
  plan = $state.raw<Made<PlanReport, PlanOptions> | null>(null)

  writeOptions = $state<WriteOptions>({ ...WRITE })
  saved = $state.raw<Made<Saved, WriteOptions> | null>(null)

  run = $state.raw<Run | null>(null)
  notice = $state.raw<Notice | null>(null)

  palette = $state<Palette>('viridis')
  /** The layer under the pointer, in whichever picture. */
  hover = $state<number | null>(null)
  /** The two layers whose maps are shown. */
  pair = $state.raw<readonly [number, number]>([0, 1])

  readonly mapsFresh = $derived(freshness(this.maps, keyOf(this.calibration), true))
  readonly planFresh = $derived(freshness(this.plan, keyOf([this.maps?.key, this.planOptions]), this.mapsFresh === 'fresh'))
  readonly savedFresh = $derived(freshness(this.saved, keyOf([this.plan?.key, this.writeOptions]), this.planFresh === 'fresh'))

  readonly stages = $derived(stageStates({
    model: this.model !== null, similarity: this.mapsFresh, plan: this.planFresh, written: this.savedFresh,
    running: this.run?.kind ?? null,
  }))

  /** Why no new run can start now; empty when one can. */
  readonly busy = $derived(this.run ? 'Another step is running; cancel it or wait for it.' : '')
}

export function keyOf(value: unknown): string {
  return JSON.stringify(value)
}

export function freshness(made: { key: string } | null, key: string, restsOnFresh: boolean): Freshness {
  if (!made) return 'none'
  return restsOnFresh && made.key === key ? 'fresh' : 'stale'
}

import type { Failure } from './engine/errors'
import type { Features } from './engine/features'
import type { Ended } from './download/messages'
import type {
  CalibrationOptions, CompareOptions, CompareReport, CompareRow, DevicePreference, DeviceReport, EngineError, Estimate, MergeStep,
  ModelReport, NamedMethod, PlanOptions, PlanReport, Progress, SimilarityReport, WriteOptions, WriteReport,
} from './engine/protocol'
import type { Opened } from './engine/source'
import type { Palette } from './charts/colour'
import type { Tick } from './progress'
import { CALIBRATION, EVALUATION, HUB, PLAN, WRITE } from './defaults'
import { chosenComparison, type Choice } from './methods'
import type { Found } from './remote/find'
import type { TrialFiles, Which } from './try/files'
import type { Trial } from './try/trial'
import { comparisonState, stageStates, type Facts, type Freshness } from './stages'

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

export interface Saved {
  report: WriteReport
  /** Where it went: a folder or a file the user chose, or the browser's downloads. */
  place: { kind: 'folder' | 'file'; name: string } | { kind: 'download'; download: Download }
}

/** A model in the private storage, on its way into the browser's downloads. */
export interface Download {
  job: string
  /** What the downloaded file is called. */
  name: string
  /** The file's address in this page, where it was not streamed. */
  url: string | null
  bytes: number
  /** Settles when the storage is not read any more. */
  ended: Promise<unknown>
}

/** All that the page knows. Views read it, `actions.ts` changes it. */
export class State {
  features = $state.raw<Features | null>(null)
  preference = $state<DevicePreference>('auto')
  device = $state.raw<DeviceReport | null>(null)
  /** How much of the engine has arrived, in words, until it runs. */
  loading = $state<string | null>('Loading the engine')
  /** The same in bytes, as soon as some are there. */
  arrived = $state.raw<Progress | null>(null)

  model = $state.raw<ModelReport | null>(null)
  origin = $state.raw<'demo' | Opened | null>(null)
  /** Where repositories are looked up, and with what token: in memory only, gone with the page. */
  remote = $state({ endpoint: HUB, token: '' })
  /** Several models at the address that was named; the user chooses. */
  found = $state.raw<Found | null>(null)

  calibration = $state<CalibrationOptions>({ ...CALIBRATION })
  estimate = $state.raw<Estimate | null>(null)
  estimateError = $state.raw<EngineError | null>(null)
  builtinText = $state.raw<{ name: string; text: string } | null>(null)
  builtinEvaluation = $state.raw<{ name: string; text: string } | null>(null)
  /** Those that have a name. */
  methods = $state.raw<NamedMethod[]>([])

  live = $state.raw<Live | null>(null)
  maps = $state.raw<Made<SimilarityReport, CalibrationOptions> | null>(null)

  planOptions = $state<PlanOptions>({ ...PLAN })
  steps = $state.raw<MergeStep[]>([])
  plan = $state.raw<Made<PlanReport, PlanOptions> | null>(null)

  /** What is to be compared, as it is typed. */
  choice = $state<Choice>({ methods: [], counts: '', evaluation: { ...EVALUATION }, seed: 0 })
  /** Results of the comparison that runs, or that ended without a report. */
  rows = $state.raw<CompareRow[]>([])
  comparison = $state.raw<Made<CompareReport, CompareOptions> | null>(null)

  writeOptions = $state<WriteOptions>({ ...WRITE })
  saved = $state.raw<Made<Saved, WriteOptions> | null>(null)
  /** How the streaming of the download goes: bytes that left, then how it ended. */
  streaming = $state.raw<{ job: string; sent: number } | { job: string; ended: Ended } | null>(null)

  /** What both models made of a prompt, and the files they were read from. */
  trial = $state.raw<Trial | null>(null)
  trialFiles: Record<Which, TrialFiles | null> = { original: null, compressed: null }

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

  readonly comparisonFresh = $derived(freshness(
    this.comparison, keyOf([this.maps?.key, chosenComparison(this.choice, this.model?.layers ?? 0).options]), this.mapsFresh === 'fresh',
  ))

  readonly stages = $derived(stageStates({
    model: this.model !== null, similarity: this.mapsFresh, plan: this.planFresh, written: this.savedFresh,
    running: this.run?.kind ?? null,
  }))
  /** That of the comparison of methods, which is beside the stages. */
  readonly compared = $derived(comparisonState(this.stages.see, this.comparisonFresh))

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

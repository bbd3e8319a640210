import type { Failure } from '../engine/errors'
import type { Features } from '../engine/features'
import type { Ended } from '../take/download/messages'
import type { CompareOptions, CompareRow } from '../engine/protocol/compare'
import type { Comparison } from '../charts/speed'
import type { DevicePreference, DeviceReport } from '../engine/protocol/device'
import type { EngineError } from '../engine/protocol/error'
import type { Estimate, PlanEstimate } from '../engine/protocol/estimate'
import type { Kept } from '../engine/protocol/events'
import type { HealPoint } from '../engine/protocol/heal'
import type { UsedImatrix } from '../engine/protocol/imatrix'
import type { NamedMethod } from '../engine/protocol/method'
import type { ModelReport } from '../engine/protocol/model'
import type { WriteOptions, WriteReport } from '../engine/protocol/output'
import type { MergeStep, PlanOptions, PlanReport } from '../engine/protocol/plan'
import type { CalibrationPoint } from '../engine/protocol/quality'
import type { CalibrationOptions, SimilarityReport } from '../engine/protocol/similarity'
import type { SizeSearch } from '../engine/protocol/sizing'
import type { Opened } from '../engine/source'
import type { Palette } from '../charts/colour'
import type { Goal } from '../charts/costs'
import { Advanced } from './advanced.svelte'
import type { Costs, Made } from './made'
import type { Activity, Moment } from './progress'
import { CALIBRATION, EVALUATION, HUB, PLAN, WRITE } from './defaults'
import { keyOf } from './keys'
import { MatrixState } from '../similarity/matrix/state.svelte'
import { chosenComparison, fitting, forSize, isFitted, type Choice } from '../words/methods'
import { optionsWith, UNTOUCHED, type Hand } from '../plan/hand'
import { begun, type History } from '../plan/history'
import type { Found } from '../open/remote/find'
import type { TrialFiles, Which } from '../try/files'
import type { BothSpeeds } from '../try/speed'
import type { Trial } from '../try/trial'
import type { KeptRun } from '../keep/record'
import type { Turn } from './run/turn'
import type { Result } from '../share/result'
import { weighingOf, type StoredAs } from '../words/types'
import { ALL_DONE, comparisonState, stageStates, type Facts, type Freshness } from './stages'
import { UNREAD, USUAL_DEMO, type BuiltIns, type Usual } from '../text/usual'

export type RunKind = NonNullable<Facts['running']>

export interface Run {
  kind: RunKind
  controller: AbortController
  /** First tick of the present engine stage, and the latest. */
  first: Moment | null
  last: Moment | null
  cancelling: boolean
  /** 'asked' until the engine waits. */
  pause: 'no' | 'asked' | 'held'
  /** Another tab runs something; this run begins when that ends. */
  waiting: boolean
  /** What would survive, as far as layers are kept. */
  kept: Kept | null
  /** When the first layer of this run began, for the time that is left: `layer` is its index. */
  layersFrom: { layer: number; done: number; at_ms: number } | null
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

export interface Saved {
  report: WriteReport
  /** Where it went: a folder or a file the user chose, or the browser's downloads. */
  place:
    | { kind: 'folder'; name: string; folder: FileSystemDirectoryHandle }
    | { kind: 'file'; name: string; file: FileSystemFileHandle }
    | { kind: 'download'; download: Download }
}

/** A model in the private storage, from where it goes into the browser's downloads. */
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

/** Importances of the model that is open, from a file that stays on the user's disk. */
export interface OpenImatrix extends UsedImatrix {
  file: File
}

/** What stands in `State.loading` where there is no engine. */
export const NOT_STARTED = 'The engine could not be started'

/** All that the page knows. Views read it, `actions.ts` changes it. */
export class State {
  features = $state.raw<Features | null>(null)
  preference = $state<DevicePreference>('auto')
  device = $state.raw<DeviceReport | null>(null)
  /** How much of the engine has arrived, in words, from its start until it runs. */
  loading = $state<string | null>(null)
  /** The same in bytes, as soon as some are there. */
  arrived = $state.raw<Activity | null>(null)

  model = $state.raw<ModelReport | null>(null)
  origin = $state.raw<'demo' | Opened | null>(null)
  /** Where repositories are looked up, and with what token: in memory only, gone with the page. */
  remote = $state({ endpoint: HUB, token: '' })
  /** Several models at the address that was named; the user chooses. */
  found = $state.raw<Found | null>(null)

  calibration = $state<CalibrationOptions>({ ...CALIBRATION })
  estimate = $state.raw<Estimate | null>(null)
  estimateError = $state.raw<EngineError | null>(null)
  planEstimate = $state.raw<PlanEstimate | null>(null)
  compareEstimate = $state.raw<PlanEstimate | null>(null)
  /** The texts of the demo, which the engine has. */
  stories = $state.raw<BuiltIns | null>(null)
  /** The texts of any other model, once one was opened. */
  prose = $state.raw<BuiltIns | null>(null)
  /** What the model that is open began with. */
  usual = $state.raw<Usual>(USUAL_DEMO)
  /** Those that have a name. */
  methods = $state.raw<NamedMethod[]>([])

  live = $state.raw<Live | null>(null)
  maps = $state.raw<Made<SimilarityReport, CalibrationOptions> | null>(null)

  /** What removing layers costs, as far as it was measured, by the method and on the texts of `key`. */
  costs = $state.raw<Costs | null>(null)
  /** How far the plan is to go, on that curve. */
  goal = $state<Goal>('jump')

  planOptions = $state<PlanOptions>({ ...PLAN })
  steps = $state.raw<MergeStep[]>([])
  /** What of the plan is made by hand, and what it was before. */
  hand = $state.raw<History<Hand>>(begun(UNTOUCHED))
  plan = $state.raw<Made<PlanReport, PlanOptions> | null>(null)
  /** How the plan was found, where a size was asked for. */
  search = $state.raw<SizeSearch | null>(null)

  /** What the plan with this key is worth when it is fitted with so many sequences; fills in while that is measured. */
  sizes = $state.raw<{ key: string; wanted: number[]; points: CalibrationPoint[] } | null>(null)

  /** What has been measured so far of the plan that is being healed. */
  healing = $state.raw<HealPoint[]>([])

  /** What is to be compared, as it is typed; fitted plans are judged on its evaluation text too. */
  choice = $state<Choice>({
    methods: [],
    counts: '',
    evaluation: { ...EVALUATION },
    seed: 0,
    types: ['keep'],
    size: null,
  })
  /** Results of the comparison that runs, or that ended without a report. */
  rows = $state.raw<CompareRow[]>([])
  comparison = $state.raw<Made<Comparison, CompareOptions> | null>(null)

  writeOptions = $state<StoredAs>({ ...WRITE })
  /** By what quantised values are encoded instead of by what is collected on the calibration text. */
  imatrix = $state.raw<OpenImatrix | null>(null)
  saved = $state.raw<Made<Saved, WriteOptions> | null>(null)
  /** How the streaming of the download goes: bytes that left, then how it ended. */
  streaming = $state.raw<{ job: string; sent: number } | { job: string; ended: Ended } | null>(null)

  /** What both models made of a prompt, and the files they were read from. */
  trial = $state.raw<Trial | null>(null)
  /** How fast both run. */
  speed = $state.raw<BothSpeeds | null>(null)
  trialFiles: Record<Which, TrialFiles | null> = { original: null, compressed: null }

  /** A stored result that is shown instead of the stages, and where it came from: "a link", or a file's name; `link` is its fragment of the page's address. */
  viewing = $state.raw<{ result: Result; from: string; link: string | null } | null>(null)
  /** This is the state of a stored result: what is known of it, without its model. */
  readOnly = $state(false)

  run = $state.raw<Run | null>(null)
  /** The last run of this browser, as far as it outlives the page. */
  kept = $state.raw<KeptRun | null>(null)
  /** What is shown is what an earlier page found. */
  restored = $state(false)
  /** What another tab runs. */
  elsewhere = $state.raw<Turn | null>(null)
  /** What a run says that is no error. */
  remark = $state.raw<string | null>(null)
  notice = $state.raw<Notice | null>(null)

  /** Whether the settings show that most people never need; a stored result that is shown shares the page's own switch. */
  advanced = new Advanced()
  palette = $state<Palette>('viridis')
  /** How the matrix is looked at. */
  readonly matrix = new MatrixState()
  /** The layer under the pointer, in whichever picture. */
  hover = $state<number | null>(null)
  /** The point being read, in whichever map. */
  point = $state<number | null>(null)
  /** The two layers whose maps are shown. */
  pair = $state.raw<readonly [number, number]>([0, 1])

  /** The texts that are used where none is given. */
  readonly builtin: BuiltIns | null = $derived(this.usual === USUAL_DEMO ? this.stories : (this.prose ?? UNREAD))
  readonly mapsFresh = $derived(this.fresh(this.maps, keyOf(this.calibration), true))
  /** What decides by which importances values are encoded; nothing where they are collected. */
  readonly weighing = $derived(weighingOf(this.writeOptions, this.imatrix))
  /** Most bytes of the file, where a size is asked for. A plan by hand has the layers that it has. */
  readonly targetSize = $derived(this.hand.present.active ? null : this.choice.size)
  /** What a plan would be made with now. For a size the number of layers is searched for. */
  readonly chosenPlan = $derived(
    forSize(optionsWith(fitting(this.planOptions, this.model), this.hand.present), this.targetSize),
  )
  /** Whether its layers would be fitted, so that it is judged on a text of its own. */
  readonly planFitted = $derived(isFitted(this.hand.present.exact?.operator ?? this.chosenPlan.operator))
  readonly planKey = $derived(
    keyOf([
      this.maps?.key,
      ...(this.targetSize === null ? [] : [this.targetSize]),
      this.chosenPlan,
      this.hand.present.exact,
      ...(this.planFitted ? [this.choice.evaluation] : []),
      ...this.weighing,
    ]),
  )
  readonly planFresh = $derived(this.fresh(this.plan, this.planKey, this.mapsFresh === 'fresh'))
  readonly savedFresh = $derived(
    this.fresh(this.saved, keyOf([this.plan?.key, this.writeOptions]), this.planFresh === 'fresh'),
  )

  readonly comparisonKey = $derived(
    keyOf([this.maps?.key, chosenComparison(this.choice, this.model?.layers ?? 0).options, ...this.weighing]),
  )
  readonly comparisonFresh = $derived(this.fresh(this.comparison, this.comparisonKey, this.mapsFresh === 'fresh'))

  readonly stages = $derived(
    this.readOnly
      ? ALL_DONE
      : stageStates({
          model: this.model !== null,
          similarity: this.mapsFresh,
          plan: this.planFresh,
          written: this.savedFresh,
          running: this.run?.kind ?? null,
        }),
  )
  /** That of the comparison of methods, which is beside the stages. */
  readonly compared = $derived(comparisonState(this.stages.see, this.comparisonFresh))

  /** Why no new run can start now; empty when one can. */
  readonly busy = $derived(
    this.run
      ? 'Another step is running; cancel it or wait for it.'
      : this.readOnly
        ? 'This is a stored result; open its model to compute.'
        : '',
  )

  /** A stored result is as it was made. */
  private fresh(made: { key: string } | null, key: string, restsOnFresh: boolean): Freshness {
    return this.readOnly && made ? 'fresh' : freshness(made, key, restsOnFresh)
  }
}

function freshness(made: { key: string } | null, key: string, restsOnFresh: boolean): Freshness {
  if (!made) return 'none'
  return restsOnFresh && made.key === key ? 'fresh' : 'stale'
}

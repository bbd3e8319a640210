import { countAbove } from './charts/neighbours'
import { EngineClient } from './engine/client'
import { isCancelled, toEngineError } from './engine/errors'
import { detectFeatures, preferenceFrom } from './engine/features'
import { removeJob, sweepJobs } from './engine/jobs'
import type { CallName, Calls } from './engine/messages'
import type { DevicePreference, EngineEvent } from './engine/protocol'
import type { Opened } from './engine/source'
import { isSearch, suggestedCounts } from './methods'
import { keyOf, type Run, type RunKind, type State } from './state.svelte'
import { dropTrialFiles } from './try/files'

/** Layers this alike are suggested for merging. */
const ALIKE = 0.9

/** What the user can make happen. Each run ends in a result, in a notice, or cancelled; never in between. */
export class Actions {
  /** The worker that holds the model, and the one that holds the maps; another has to be told again. */
  private modelIn = -1
  private mapsIn = -1
  private device: { generation: number; ready: Promise<void> } | null = null
  private estimating: AbortController | null = null

  constructor(readonly state: State, private readonly client: EngineClient) {}

  async start(): Promise<void> {
    this.state.features = detectFeatures()
    this.state.preference = preferenceFrom(location.search)
    void sweepJobs().catch(() => {})
    try {
      await this.ensureDevice(null)
    } catch (thrown) {
      this.report(thrown, () => this.onCpu(() => {}))
    }
  }

  openDemo(): Promise<boolean> {
    return this.open('demo')
  }

  async runDemo(): Promise<void> {
    if (await this.openDemo()) await this.compare()
  }

  open(origin: 'demo' | Opened): Promise<boolean> {
    return this.during('open', run => this.openIn(run, origin))
  }

  /** Opens a model within a run that is going on. */
  async openIn(run: Run, origin: 'demo' | Opened): Promise<void> {
    const { state } = this
    if (origin !== 'demo' && origin.files.length === 0) throw { kind: 'usage', message: 'There were no files in it. Open the folder of a model, or a .gguf file.' }
    await this.ensureDevice(run)
    const model = await this.openNow(run, origin)
    this.forget('maps')
    dropTrialFiles(state, 'original')
    Object.assign(state, { model, origin, estimate: null, found: null })
    state.writeOptions.container = model.container
  }

  /** Runs the calibration text through the model and compares its layers. */
  compare(): Promise<boolean> {
    return this.during('similarity', async run => {
      await this.ensureModel(run)
      await this.compareNow(run)
    })
  }

  compress(): Promise<boolean> {
    return this.during('plan', async run => {
      const { state } = this
      await this.ensureMaps(run)
      this.forget('plan')
      const options = { ...state.planOptions }
      const report = await this.call(run, 'plan', [options, { ...state.writeOptions }])
      state.steps = report.plan.steps
      state.plan = { report, options, key: keyOf([state.maps?.key, options]) }
    })
  }

  /** Runs `work` as the one run of the page. True when it finished. */
  async during(kind: RunKind, work: (run: Run) => Promise<void>): Promise<boolean> {
    const { state } = this
    if (state.run) return false
    this.estimating?.abort()
    const run: Run = { kind, controller: new AbortController(), first: null, last: null, cancelling: false }
    state.run = run
    state.notice = null
    const awake = navigator.wakeLock?.request('screen').catch(() => null)
    try {
      await work(run)
      return true
    } catch (thrown) {
      this.report(thrown, () => this.onCpu(() => void this.during(kind, work)))
      return false
    } finally {
      state.run = null
      state.live = null
      void awake?.then(lock => lock?.release())
    }
  }

  cancel(): void {
    const { run } = this.state
    if (!run) return
    this.state.run = { ...run, cancelling: true }
    run.controller.abort()
  }

  async choose(preference: DevicePreference): Promise<void> {
    if (this.state.run) return
    this.state.preference = preference
    this.client.restart()
    this.state.device = null
    this.state.notice = null
    try {
      await this.ensureDevice(null)
    } catch (thrown) {
      this.report(thrown, () => this.onCpu(() => {}))
    }
  }

  /** Memory and time of the next run. Quietly given up when something else begins. */
  async estimate(): Promise<void> {
    const { state } = this
    if (state.run || !state.model) return
    this.estimating?.abort()
    const { signal } = (this.estimating = new AbortController())
    try {
      await this.ensureModel(null)
      const estimate = await this.client.call(null, 'estimate', [{ ...state.calibration }])
      if (!signal.aborted) Object.assign(state, { estimate, estimateError: null })
    } catch (thrown) {
      if (!signal.aborted) Object.assign(state, { estimate: null, estimateError: toEngineError(thrown) })
    }
  }

  /** Drops results that a new one will replace, and what rests on them. */
  forget(from: 'maps' | 'plan' | 'saved'): void {
    const { state } = this
    const place = state.saved?.report.place
    if (place?.kind === 'download') {
      const { url, job, ended } = place.download
      if (url) URL.revokeObjectURL(url)
      void ended.finally(() => removeJob(job))
    }
    state.saved = null
    if (from === 'saved') return
    dropTrialFiles(state, 'compressed')
    state.trial = null
    state.plan = null
    state.steps = []
    if (from === 'plan') return
    state.maps = state.comparison = null
    state.rows = []
    state.pair = [0, 1]
  }

  report(thrown: unknown, retry: (() => void) | null): void {
    const error = toEngineError(thrown)
    this.state.notice = { error, retryOnCpu: error.kind === 'device' && this.state.preference !== 'cpu' ? retry : null }
  }

  /** A call that belongs to a run: it can be cancelled and its events are shown. */
  call<K extends CallName>(run: Run | null, name: K, args: Calls[K]['args']): Promise<Calls[K]['result']> {
    return this.client.call(run?.controller.signal ?? null, name, args, event => this.observe(event))
  }

  async ensureMaps(run: Run): Promise<void> {
    await this.ensureModel(run)
    if (this.mapsIn !== this.client.generation) await this.compareNow(run)
  }

  private async compareNow(run: Run): Promise<void> {
    const { state } = this
    const options = { ...state.calibration }
    const hadMaps = state.maps !== null
    state.live = { layers: state.model?.layers ?? 0, rows: [], embedding: [] }
    const report = await this.call(run, 'similarity', [options])
    const key = keyOf(options)
    this.mapsIn = this.client.generation
    if (state.maps?.key !== key) this.forget('plan')
    state.maps = { report, options, key }
    if (hadMaps) return
    Object.assign(state.planOptions, { remove: Math.max(1, countAbove(report.similarity, ALIKE)), min_similarity: null })
    state.choice.counts = suggestedCounts(report.layers)
    state.pair = mostAlike(report.similarity)
  }

  async ensureModel(run: Run | null): Promise<void> {
    await this.ensureDevice(run)
    if (this.modelIn !== this.client.generation && this.state.origin) await this.openNow(run, this.state.origin)
  }

  private async openNow(run: Run | null, origin: 'demo' | Opened) {
    this.modelIn = this.mapsIn = -1
    const model = await (origin === 'demo' ? this.call(run, 'openDemo', []) : this.call(run, 'open', [origin.files, origin.folder]))
    this.modelIn = this.client.generation
    return model
  }

  /** Starts the engine once for each worker, whoever asks first. */
  private ensureDevice(run: Run | null): Promise<void> {
    const { generation } = this.client
    if (this.device?.generation === generation) return this.device.ready
    const ready = this.startEngine(run).catch(thrown => {
      this.device = null
      throw thrown
    })
    this.device = { generation, ready }
    return ready
  }

  private async startEngine(run: Run | null): Promise<void> {
    const { state } = this
    state.loading = 'Loading the engine'
    try {
      state.device = await this.call(run, 'create', [state.preference])
      if (state.methods.length === 0) await this.learn()
      state.loading = null
    } catch (thrown) {
      state.loading = 'The engine could not be started'
      throw thrown
    } finally {
      state.arrived = null
    }
  }

  /** What the engine brings along. */
  private async learn(): Promise<void> {
    const { state, client } = this
    state.builtinText = await client.call(null, 'builtinText', [])
    state.builtinEvaluation = await client.call(null, 'builtinEvaluation', [])
    state.methods = await client.call(null, 'methods', [])
    state.choice.methods = state.methods.filter(method => !isSearch(method)).map(method => method.name)
  }

  private async onCpu(again: () => void): Promise<void> {
    await this.choose('cpu')
    again()
  }

  observe(event: EngineEvent): void {
    const { state } = this
    if ('row' in event) state.rows = [...state.rows, event.row]
    else if ('step' in event) state.steps = state.run?.kind === 'plan' ? [...state.steps, event.step] : state.steps
    else if ('layer' in event) {
      const { layer, layers, row, embedding } = event.layer
      const live = state.live ?? { layers, rows: [], embedding: [] }
      const put = <T>(list: T[], item: T) => Object.assign([...list], { [layer]: item })
      state.live = { layers, rows: put(live.rows, row), embedding: put(live.embedding, embedding) }
    } else {
      const tick = { at_ms: performance.now(), progress: event.progress }
      if (state.loading !== null) Object.assign(state, { loading: `Loading ${event.progress.detail}`, arrived: event.progress })
      if (!state.run) return
      const sameStage = state.run.last?.progress.stage === event.progress.stage
      state.run = { ...state.run, first: sameStage ? state.run.first : tick, last: tick }
    }
  }
}

export function wasCancelled(state: State): boolean {
  return state.notice !== null && isCancelled(state.notice.error)
}

function mostAlike(matrix: readonly (readonly number[])[]): readonly [number, number] {
  let best: readonly [number, number] = [0, Math.min(1, matrix.length - 1)]
  for (let l = 0; l + 1 < matrix.length; l++) if (matrix[l]![l + 1]! > matrix[best[0]]![best[1]]!) best = [l, l + 1]
  return best
}

import { countAbove, mostAlike } from '../charts/neighbours'
import { remembered, runOf } from '../similarity/matrix/runs'
import { EngineClient } from '../engine/client'
import { Failure, isCancelled, toEngineError } from '../engine/errors'
import { sweepJobs } from '../engine/jobs'
import type { CallName, Calls, LocalFile } from '../engine/messages'
import type { Moved } from '../engine/meter'
import type { DevicePreference } from '../engine/protocol/device'
import type { UsedImatrix } from '../engine/protocol/imatrix'
import type { LayerMap } from '../engine/protocol/engine'
import type { MapOptions } from '../engine/protocol/maps'
import type { PlanReport } from '../engine/protocol/plan'
import type { SizeRange } from '../engine/protocol/sizing'
import { refuseSomeParts, type Opened } from '../engine/source'
import { Estimates, NO_ESTIMATES } from './estimates'
import { forget, type Results } from './forget'
import { Held } from './held'
import { suggestedCounts } from '../words/methods'
import { take, type RunEvent } from './run/events'
import { Safety } from './run/safety'
import { keyOf } from './keys'
import type { Run, RunKind, State } from './state.svelte'
import { startAgain } from '../plan/edit'
import { beginWith, calibrationOf, evaluationOf, limitSequences } from '../text/texts'
import { USUAL_DEMO, usualOf } from '../text/usual'
import { storeAs, storedForSize } from '../words/types'
import { dropTrialFiles } from '../try/files'
import { chooseType, isPacked, isQuantised, typeOf } from '../words/types'

/** Layers this alike are suggested for merging. */
const ALIKE = 0.9

/** What the user can make happen. Each run ends in a result, in a notice, or cancelled; never in between. */
export class Actions {
  readonly held: Held
  readonly safety: Safety
  readonly estimates: Estimates

  /** Before `needed` the engine is not started unless a step asks for it. */
  constructor(
    readonly state: State,
    private readonly client: EngineClient,
    private readonly needed: Promise<void> = Promise.resolve(),
  ) {
    this.held = new Held(this, client)
    this.safety = new Safety(this, client)
    this.estimates = new Estimates(state, client, () => this.held.ensureModel(null))
  }

  async start(): Promise<void> {
    void sweepJobs().catch(() => {})
    void this.safety.start().catch(() => {})
    await this.needed
    try {
      await this.held.ensureDevice(null)
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

  async open(origin: 'demo' | Opened): Promise<boolean> {
    const opened = await this.during('open', run => this.openIn(run, origin))
    if (opened) await this.safety.keeping.recognise()
    return opened
  }

  /** Opens a model within a run that is going on. */
  async openIn(run: Run, origin: 'demo' | Opened): Promise<void> {
    const { state } = this
    if (origin !== 'demo' && origin.files.length === 0)
      throw { kind: 'usage', message: 'There were no files in it. Open the folder of a model, or a .gguf file.' }
    if (origin !== 'demo') refuseSomeParts(origin)
    await this.held.ensureDevice(run)
    // Importances are of the model that they were opened for.
    const imatrix = this.safety.keeping.isShown(origin) ? state.imatrix : null
    const model = await this.held.open(run, origin, imatrix)
    if (!this.safety.keeping.isShown(origin)) this.forget('maps')
    dropTrialFiles(state, 'original')
    Object.assign(state, { model, origin, imatrix, ...NO_ESTIMATES, found: null, viewing: null })
    startAgain(state)
    beginWith(state, origin === 'demo' ? USUAL_DEMO : usualOf(model))
    state.writeOptions.container = model.container
    // What was chosen for the model before may not be for files of this kind.
    if (isPacked(typeOf(state.writeOptions)) || (model.container !== 'gguf' && isQuantised(state.writeOptions.dtype)))
      chooseType(state.writeOptions, 'keep')
  }

  /** Runs the calibration text through the model and compares its layers. */
  compare(kind: 'similarity' | 'metric' = 'similarity'): Promise<boolean> {
    return this.during(kind, async run => {
      await this.held.ensureModel(run)
      await this.compareNow(run)
    })
  }

  compress(): Promise<boolean> {
    return this.during('plan', async run => {
      const { state } = this
      await this.ensureMaps(run)
      const [output, judge] = [{ ...state.writeOptions }, await evaluationOf(state)]
      // A type that is refused leaves the plan before on the page, and is not asked for again.
      await this.call(run, 'checkOutput', [output]).catch(thrown => {
        if (!isCancelled(toEngineError(thrown))) chooseType(state.writeOptions, 'keep')
        throw thrown
      })
      this.forget('plan')
      const [options, key, { exact }] = [state.chosenPlan, state.planKey, state.hand.present]
      // What a later page shows again has a number of layers, whatever is found.
      const keeps = await this.safety.keeping.planning({
        ...options,
        remove: options.remove ?? state.planOptions.remove,
      })
      const size = exact ? null : state.targetSize
      const report = exact
        ? await this.call(run, 'measure', [exact, output, judge, keeps])
        : size === null
          ? await this.call(run, 'plan', [options, output, judge, keeps])
          : await this.bestOfSize(run, size, keeps)
      state.steps = report.plan.steps
      state.plan = {
        report,
        options: size === null ? options : { ...options, remove: report.layers.before - report.layers.after },
        key,
      }
      await this.safety.keeping.made()
    })
  }

  /** The best model of a size. What it is stored in is chosen from then on. */
  private async bestOfSize(run: Run, size: number, keeps: boolean): Promise<PlanReport> {
    const { state } = this
    const { search, plan } = await this.call(run, 'bestOfSize', [
      size,
      state.chosenPlan,
      storedForSize(state.writeOptions),
      await evaluationOf(state),
      keeps,
    ])
    state.search = search
    storeAs(state.writeOptions, plan.output)
    return plan
  }

  /** Runs `work` as the one run of the page. True when it finished. */
  async during(kind: RunKind, work: (run: Run) => Promise<void>): Promise<boolean> {
    const { state } = this
    if (state.run) return false
    this.estimates.stop()
    const run: Run = {
      kind,
      controller: new AbortController(),
      first: null,
      last: null,
      cancelling: false,
      pause: 'no',
      waiting: false,
      kept: null,
      layersFrom: null,
    }
    state.run = run
    state.notice = null
    try {
      await this.safety.guard(run, () => work(run))
      return true
    } catch (thrown) {
      // Only steps that write or send have something to say of what is on the disk or on the server.
      const stopped = kind !== 'write' && kind !== 'push' && isCancelled(toEngineError(thrown))
      this.report(stopped ? new Failure('cancelled', 'Cancelled.') : thrown, () =>
        this.onCpu(() => void this.during(kind, work)),
      )
      return false
    } finally {
      state.run = null
      state.live = null
      void this.safety.keeping.stopped()
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
    this.prefer(preference)
    this.state.notice = null
    try {
      await this.held.ensureDevice(null)
    } catch (thrown) {
      this.report(thrown, () => this.onCpu(() => {}))
    }
  }

  /** The engine starts anew on this device with the next call. */
  prefer(preference: DevicePreference): void {
    this.state.preference = preference
    this.client.restart()
    this.state.device = null
  }

  /** Maps with other parameters, from what the engine keeps of the last comparison. Not while a run goes on. */
  async mapLayers(options: MapOptions): Promise<LayerMap[]> {
    if (!this.held.maps)
      throw new Failure(
        'usage',
        'The engine does not hold these maps any more. Compare the layers again to change them.',
      )
    return this.client.call(null, 'mapLayers', [options])
  }

  /** Gives the engine a file of importances of its model. Not while a run goes on. */
  async useImatrix(file: LocalFile): Promise<UsedImatrix> {
    await this.held.ensureModel(null)
    return this.client.call(null, 'useImatrix', [file])
  }

  /** The engine collects importances again. */
  async forgetImatrix(): Promise<void> {
    await this.held.ensureModel(null)
    await this.client.call(null, 'forgetImatrix', [])
  }

  /** The sizes of files between which the best model can be found. */
  async sizeRange(): Promise<SizeRange> {
    await this.held.ensureModel(null)
    const { chosenPlan, writeOptions } = this.state
    return this.client.call(null, 'sizeRange', [chosenPlan, storedForSize(writeOptions)])
  }

  forget(from: Results): void {
    forget(this.state, from)
  }

  report(thrown: unknown, retry: (() => void) | null): void {
    const error = toEngineError(thrown)
    const { preference, device } = this.state
    // What ends the engine on a graphics device may be the device.
    const onGraphics = preference !== 'cpu' && device?.kind !== 'cpu'
    const mayHelp = (error.kind === 'device' && preference !== 'cpu') || (error.kind === 'internal' && onGraphics)
    this.state.notice = { error, retryOnCpu: mayHelp ? retry : null }
  }

  /** A call that belongs to a run: it can be cancelled and its events are shown. */
  call<K extends CallName>(run: Run | null, name: K, args: Calls[K]['args']): Promise<Calls[K]['result']> {
    return this.client.call(run?.controller.signal ?? null, name, args, event => this.observe(event))
  }

  /** Bytes read and written by the step that runs. */
  get moved(): Moved {
    return this.client.moved
  }

  /** The engine holds the model that is open. */
  ensureModel(run: Run): Promise<void> {
    return this.held.ensureModel(run)
  }

  async ensureMaps(run: Run): Promise<void> {
    await this.ensureModel(run)
    if (!this.held.maps) await this.compareNow(run)
  }

  private async compareNow(run: Run): Promise<void> {
    const { state } = this
    await limitSequences(state, (...args) => this.call(run, 'sequencesWithin', args))
    const options = { ...state.calibration }
    const told = await calibrationOf(state)
    const hadMaps = state.maps !== null
    // With another metric alone, the engine compares what it kept; the picture stays until it has.
    const metricAlone =
      this.held.maps &&
      state.maps !== null &&
      state.maps.options.metric !== options.metric &&
      keyOf({ ...state.maps.options, metric: options.metric }) === keyOf(options)
    state.live = metricAlone ? null : { layers: state.model?.layers ?? 0, rows: [], embedding: [] }
    const report = await this.call(
      run,
      'similarity',
      metricAlone ? [told] : [told, await this.safety.keeping.begin(options)],
    )
    const key = keyOf(options)
    this.held.gotMaps()
    if (state.maps?.key !== key && !metricAlone) {
      this.forget('plan')
      state.costs = null
    }
    state.maps = { report, options, key }
    state.matrix.runs = remembered(state.matrix.runs, runOf(report, keyOf([report.model.name, key])))
    await this.safety.keeping.made()
    if (!hadMaps) this.propose()
  }

  /** What similarities that the page did not show before suggest: how much to remove, unless a plan says that, and which two maps to look at. */
  propose(planned = true): void {
    const { state } = this
    if (!state.maps) return
    const { similarity, layers } = state.maps.report
    if (planned)
      Object.assign(state.planOptions, { remove: Math.max(1, countAbove(similarity, ALIKE)), min_similarity: null })
    state.choice.counts = suggestedCounts(layers)
    state.pair = mostAlike(similarity)
  }

  private async onCpu(again: () => void): Promise<void> {
    await this.choose('cpu')
    again()
  }

  observe(event: RunEvent): void {
    if ('kept' in event) this.safety.heard(event.kept)
    else take(this.state, event)
  }
}

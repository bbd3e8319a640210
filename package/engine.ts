/** The engine as other people's pages see it: the client of the page with its usual settings, one promise for each step. */
import { CALIBRATION, PLAN, WRITE } from '../www/app/defaults'
import { EngineClient, type WorkerPort } from '../www/engine/client'
import { Failure } from '../www/engine/errors'
import { newJob, removeJob, sweepJobs } from '../www/engine/jobs'
import type { CallName, Calls, RemoteFile } from '../www/engine/messages'
import type { DevicePreference, DeviceReport } from '../www/engine/protocol/device'
import type { LayerDone, Progress } from '../www/engine/protocol/events'
import type { ModelReport } from '../www/engine/protocol/model'
import type { PlanOptions, PlanReport } from '../www/engine/protocol/plan'
import type { CalibrationOptions, SimilarityReport } from '../www/engine/protocol/similarity'
import type { TextOptions } from '../www/engine/protocol/text'
import { fromFileList, refuseSomeParts, type Opened } from '../www/engine/source'
import { neededSpace } from '../www/engine/space'
import { startOn, type Graphics } from '../www/engine/starting'
import { fetchProse, USUAL_DEMO, usualOf, type BuiltIns, type Usual } from '../www/text/usual'
import { makingOf, quarter, RECOMMENDED } from '../www/words/methods'
import { bytesStoredAs, resultName } from '../www/words/results'
import type { StoredAs } from '../www/words/types'

/** What every step takes. */
export interface StepOptions {
  /** Stops the step: its promise is rejected with a `Failure` of the kind `cancelled`. */
  signal?: AbortSignal
  /** Told how far the step is. */
  onProgress?: (progress: Progress) => void
}

export interface EngineOptions extends StepOptions {
  /** What to compute on. `auto`, the default, is a graphics card that gives right answers and is faster, else the CPU. */
  device?: DevicePreference
}

/** What is not said is as on Laminate's own page. */
export interface LayersOptions extends StepOptions, Partial<Omit<CalibrationOptions, 'text'>> {
  /** Told each layer as soon as it is compared, so that a picture can fill in. */
  onLayer?: (layer: LayerDone) => void
}

/** What is not said is as on Laminate's own page. */
export interface CompressOptions extends StepOptions, Partial<Omit<PlanOptions, 'remove' | 'min_similarity'>> {
  /** Name of a method, such as `laminate` (the default), `mka` or `shortgpt`. */
  method?: string
  /** Text that the result is judged on, and that nothing is fitted to; a built-in one where none is given. */
  judge?: string
  /** How the result will be stored, for its measures. */
  output?: Partial<StoredAs>
}

/** What is not said is as the result was measured. */
export interface WriteModelOptions extends StepOptions, Partial<StoredAs> {}

/** A running engine, in a worker of its own. It holds one model and does one step at a time: await each before the next. */
export class Engine {
  /** What the engine computes on. */
  device!: DeviceReport
  /** The model that is open. */
  model: ModelReport | null = null
  #origin: 'demo' | Opened | null = null
  #usual: Usual = USUAL_DEMO
  #prose: Promise<BuiltIns> | null = null
  /** The workers that were started, that hold the model, and that hold the maps of its layers. */
  #startedIn = -1
  #modelIn = -1
  #mapsIn = -1
  #graphics: Graphics = { unusable: undefined }
  /** Folders of the private storage that files handed out lie in. */
  #jobs: string[] = []
  #closed = false
  readonly #preference: DevicePreference
  readonly #client: EngineClient

  private constructor(client: EngineClient, preference: DevicePreference) {
    this.#client = client
    this.#preference = preference
  }

  /** Starts an engine in the worker that `start` makes. @internal */
  static async in(start: () => WorkerPort, { device = 'auto', ...step }: EngineOptions): Promise<Engine> {
    void sweepJobs().catch(() => {})
    const engine = new Engine(new EngineClient(start), device)
    try {
      await engine.#ready(step)
    } catch (thrown) {
      engine.close()
      throw thrown
    }
    return engine
  }

  /** Opens a model: a GGUF file with all its parts, or the files of a Hugging Face folder, on disk or on a server. No weight is read yet. */
  async open(files: Iterable<File | RemoteFile>, step: StepOptions = {}): Promise<ModelReport> {
    const [local, remote]: [File[], RemoteFile[]] = [[], []]
    for (const file of files)
      if ('url' in file) remote.push(file)
      else local.push(file)
    const { folder, files: named } = fromFileList(local)
    const opened: Opened = { folder, files: [...named, ...remote] }
    if (opened.files.length === 0)
      throw new Failure('usage', 'There are no files to open. Give the files of a model, or a .gguf file.')
    refuseSomeParts(opened)
    return this.#openNew(opened, step)
  }

  /** Opens the demo, a model of 12 layers in which layers repeat each other. */
  openDemo(step: StepOptions = {}): Promise<ModelReport> {
    return this.#openNew('demo', step)
  }

  /**
   * Runs a text through the model and compares its layers, each with each. Without a text a built-in one is used: stories for
   * the demo, else Wikipedia articles, as much of them as fits in five minutes.
   */
  async compareLayers(
    text: string | null = null,
    { signal, onProgress, onLayer, ...chosen }: LayersOptions = {},
  ): Promise<SimilarityReport> {
    const step = { signal, onProgress }
    await this.#ready(step)
    this.#opened()
    const usual = this.#usual
    const options: CalibrationOptions = {
      ...CALIBRATION,
      ...usual.calibration,
      ...chosen,
      ...(await this.#textOr(text, chosen.text_name ?? null, 'calibration')),
    }
    if (usual.seconds !== null && chosen.samples === undefined)
      options.samples = Math.min(options.samples, await this.#samplesWithin(usual.seconds, options, step))
    const report = await this.#call('similarity', [options], step, onLayer)
    this.#mapsIn = this.#client.generation
    return report
  }

  /** Plans a model with `remove` layers less, and measures what that costs. The layers have to be compared before. */
  async compress(
    remove: number,
    { signal, onProgress, method = RECOMMENDED, judge, output, ...chosen }: CompressOptions = {},
  ): Promise<PlanReport> {
    const step = { signal, onProgress }
    await this.#ready(step)
    const model = this.#opened()
    if (this.#mapsIn !== this.#client.generation)
      throw new Failure('usage', 'The layers of this model have to be compared first: call compareLayers.')
    const methods = await this.#call('methods', [], step)
    const named = methods.find(({ name }) => name === method)
    if (!named)
      throw new Failure(
        'usage',
        `There is no method ${method}. The methods: ${methods.map(({ name }) => name).join(', ')}.`,
      )
    return this.#call(
      'plan',
      [
        { ...PLAN, ...makingOf(named), ...chosen, remove },
        { ...WRITE, container: model.container, ...output },
        await this.#judging(judge),
      ],
      step,
    )
  }

  /**
   * Writes the model of a plan and reads it back: a GGUF file, or a Hugging Face folder as a zip. The file lies in the
   * browser's private storage, and can be read until the engine is closed.
   */
  async write(report: PlanReport, { signal, onProgress, ...chosen }: WriteModelOptions = {}): Promise<File> {
    const step = { signal, onProgress }
    await this.#ready(step)
    const model = this.#opened()
    const name = resultName(model.name, report.layers.after)
    const options = { ...report.output, container: report.output.container ?? model.container, name, ...chosen }
    const needed = neededSpace(bytesStoredAs(report, options), options.max_shard_bytes, options.container !== 'gguf')
    const job = newJob()
    this.#jobs.push(job)
    await this.#call('write', [report.plan, options, { kind: 'private', job, needed_bytes: needed }], step)
    return this.#call('pack', [job, name], step)
  }

  /** Ends the engine: what runs is rejected, and the memory and the storage that it had are free. */
  close(): void {
    this.#closed = true
    this.#client.restart()
    for (const job of this.#jobs.splice(0)) void removeJob(job).catch(() => {})
  }

  async #openNew(origin: 'demo' | Opened, step: StepOptions): Promise<ModelReport> {
    this.#origin = null
    this.model = null
    await this.#ready(step)
    const model = await this.#openIn(origin, step)
    this.#origin = origin
    this.#usual = origin === 'demo' ? USUAL_DEMO : usualOf(model)
    return model
  }

  async #openIn(origin: 'demo' | Opened, step: StepOptions): Promise<ModelReport> {
    this.#modelIn = this.#mapsIn = -1
    this.model = await (origin === 'demo'
      ? this.#call('openDemo', [], step)
      : this.#call('open', [origin.files, origin.folder], step))
    this.#modelIn = this.#client.generation
    return this.model
  }

  /** Sees that a worker runs and has the open model: one that was lost with a graphics device is replaced. */
  async #ready(step: StepOptions): Promise<void> {
    if (this.#closed) throw new Failure('usage', 'This engine was closed. Open another one.')
    if (this.#startedIn !== this.#client.generation) {
      this.device = await startOn(this.#preference, this.#graphics, (...args) => this.#call('create', args, step))
      this.#startedIn = this.#client.generation
    }
    if (this.#origin && this.#modelIn !== this.#client.generation) await this.#openIn(this.#origin, step)
  }

  #opened(): ModelReport {
    if (!this.model) throw new Failure('usage', 'No model is open. Call open or openDemo first.')
    return this.model
  }

  /** As many sequences as comparing, and compressing by a quarter of the layers, manage in so many seconds. */
  async #samplesWithin(seconds: number, calibration: CalibrationOptions, step: StepOptions): Promise<number> {
    const { layers, container } = this.#opened()
    const plan = { ...PLAN, remove: quarter(layers) }
    return this.#call(
      'sequencesWithin',
      [seconds, calibration, plan, { ...WRITE, container }, await this.#judging()],
      step,
    )
  }

  async #judging(text: string | null = null): Promise<TextOptions> {
    return { ...this.#usual.evaluation, ...(await this.#textOr(text, null, 'evaluation')) }
  }

  /** The text that was given, or what is used in its place: the engine has the stories of the demo itself. */
  async #textOr(text: string | null, name: string | null, which: keyof BuiltIns) {
    if (text !== null) return { text, text_name: name ?? 'given text' }
    if (this.#usual === USUAL_DEMO) return { text: null, text_name: null }
    this.#prose ??= fetchProse()
    this.#prose.catch(() => (this.#prose = null))
    const prose = (await this.#prose)[which]
    return { text: prose.text, text_name: prose.name }
  }

  #call<K extends CallName>(
    name: K,
    args: Calls[K]['args'],
    { signal, onProgress }: StepOptions,
    onLayer?: (layer: LayerDone) => void,
  ): Promise<Calls[K]['result']> {
    return this.#client.call(signal ?? null, name, args, event => {
      if ('progress' in event) onProgress?.(event.progress)
      else if ('layer' in event) onLayer?.(event.layer)
    })
  }
}

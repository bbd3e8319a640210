import type { Actions } from './actions'
import type { EngineClient } from '../engine/client'
import type { ModelReport } from '../engine/protocol/model'
import type { Opened } from '../engine/source'
import { startOn, type Graphics } from '../engine/starting'
import { isSearch, makingOf, RECOMMENDED } from '../words/methods'
import { NOT_STARTED, type OpenImatrix, type Run } from './state.svelte'

/** What the engine's worker holds: its device, the model with its importances, and the maps of its layers. Another worker has to be told again. */
export class Held {
  /** The workers that hold the model and the maps. */
  private modelIn = -1
  private mapsIn = -1
  /** The worker whose layers of the plan were healed. */
  private healedIn = -1
  private started: { generation: number; ready: Promise<void> } | null = null
  private readonly graphics: Graphics = { unusable: undefined }

  constructor(
    private readonly actions: Actions,
    private readonly client: EngineClient,
  ) {}

  /** Whether it holds the maps of the last comparison. */
  get maps(): boolean {
    return this.mapsIn === this.client.generation
  }

  /** The maps of the model have just been made. */
  gotMaps(): void {
    this.mapsIn = this.client.generation
  }

  /** Whether it holds the plan that was healed last: another would write the layers as they were before. */
  get healed(): boolean {
    return this.healedIn === this.client.generation
  }

  /** The plan has just been healed. */
  gotHealed(): void {
    this.healedIn = this.client.generation
  }

  /** Starts the engine once for each worker, whoever asks first. */
  ensureDevice(run: Run | null): Promise<void> {
    const { generation } = this.client
    if (this.started?.generation === generation) return this.started.ready
    const ready = this.start(run).then(
      // A start that took two workers is that of the second.
      () => {
        this.started = { generation: this.client.generation, ready }
      },
      thrown => {
        this.started = null
        throw thrown
      },
    )
    this.started = { generation, ready }
    return ready
  }

  /** The model that is open on the page, opened anew where another worker held it. */
  async ensureModel(run: Run | null): Promise<void> {
    const { state, safety } = this.actions
    await this.ensureDevice(run)
    if (this.modelIn === this.client.generation) return
    if (run) state.origin ??= await safety.keeping.model()
    if (state.origin) await this.open(run, state.origin, state.imatrix)
  }

  /** Opens a model with the importances that are used for it, if a file of them is. */
  async open(run: Run | null, origin: 'demo' | Opened, imatrix: OpenImatrix | null): Promise<ModelReport> {
    this.modelIn = this.mapsIn = -1
    const model = await (origin === 'demo'
      ? this.actions.call(run, 'openDemo', [])
      : this.actions.call(run, 'open', [origin.files, origin.folder]))
    if (imatrix) await this.actions.call(run, 'useImatrix', [{ name: imatrix.name, file: imatrix.file }])
    this.modelIn = this.client.generation
    return model
  }

  private async start(run: Run | null): Promise<void> {
    const { state } = this.actions
    state.loading = 'Loading the engine'
    try {
      state.device = await startOn(state.preference, this.graphics, (...args) => this.actions.call(run, 'create', args))
      if (state.methods.length === 0) await this.learn()
      state.loading = null
    } catch (thrown) {
      state.loading = NOT_STARTED
      throw thrown
    } finally {
      state.arrived = null
    }
  }

  /** What the engine brings along. */
  private async learn(): Promise<void> {
    const {
      actions: { state },
      client,
    } = this
    state.stories = {
      calibration: await client.call(null, 'builtinText', []),
      evaluation: await client.call(null, 'builtinEvaluation', []),
    }
    state.methods = await client.call(null, 'methods', [])
    const recommended = state.methods.find(method => method.name === RECOMMENDED)
    // What an earlier page planned stays as it was.
    if (recommended && !state.plan && !state.kept?.planning && !state.kept?.far)
      Object.assign(state.planOptions, makingOf(recommended))
    state.choice.methods = state.methods.filter(method => !isSearch(method)).map(method => method.name)
  }
}

import type { Actions } from '../app/actions'
import { linkedResult } from '../app/address'
import { forgetKept, hasStorage, keptLayers } from '../engine/parts'
import type { KeepingMode } from '../engine/messages'
import type { PlanOptions } from '../engine/protocol/plan'
import type { CalibrationOptions } from '../engine/protocol/similarity'
import type { Opened } from '../engine/source'
import { NO_ESTIMATES } from '../app/estimates'
import type { State } from '../app/state.svelte'
import { USUAL_DEMO, usualOf } from '../text'
import { storeAs } from '../words/types'
import { captureKey, isSameModel, keptOrigin, readKept, removeKept, writeKept, type KeptRun } from './record'
import { canReopen, reopen } from './reopen'
import { isTaken } from '../app/run/turn'

const STOPPED = 'Compressing was stopped before its end. Press Compress and it goes on: what it had finished is kept.'
const NOTHING =
  'Finished layers and results are not kept: this browser gives the page no storage. A reload would begin anew.'

/** What is kept of the last run beyond the life of the page, on this device alone. */
export class Keeping {
  /** That nothing can be kept is said once. */
  private said = false

  constructor(private readonly actions: Actions) {}

  /** Shows what an earlier page left: a result, or where a run stopped. */
  async start(): Promise<void> {
    const { state } = this.actions
    // An address that carries a result of its own is what the visitor wants to see; any other fragment is a place on the page.
    if (linkedResult()) return
    const run = await readKept()
    if (!run || state.model || state.run) return
    const layers = await keptLayers()
    if (run.pending && layers === 0 && !run.maps) return
    state.kept = { ...run, layers }
    if (run.maps && !(await isTaken())) this.show(run)
  }

  /** Another tab's run has ended: what is kept may be its own now. */
  async refresh(): Promise<void> {
    const { state } = this.actions
    if (state.run) return
    if (!state.model && !state.maps) return this.start()
    const [run, { kept }] = [await readKept(), state]
    if (run?.at_ms === kept?.at_ms) return
    // Of the same model it can be gone on with here; of another, only what is open here stays.
    const same = run && kept && isSameModel(run.origin, kept.origin)
    state.kept = same ? { ...run, layers: await keptLayers() } : null
  }

  /** How the run that begins is to be kept; the place is this run's from now on. */
  async begin(calibration: CalibrationOptions): Promise<KeepingMode> {
    const { state } = this.actions
    if (!state.origin || !state.model) return 'off'
    const origin = keptOrigin(state.origin)
    const before = await readKept()
    const goesOn = before !== null && captureKey(before.origin, before.calibration) === captureKey(origin, calibration)
    const known = goesOn && before.model.name === state.model.name
    const run: KeptRun = {
      version: 1,
      origin,
      model: state.model,
      calibration,
      layers: 0,
      at_ms: Date.now(),
      pending: true,
      maps: known ? before.maps : null,
      plan: known ? before.plan : null,
      ...(known && before.judge ? { judge: before.judge } : {}),
      far: known ? (farOf(state) ?? before.far) : undefined,
      ...besides(state),
    }
    if ((await hasStorage()) && (await writeKept(run))) {
      state.kept = run
      return goesOn ? 'continue' : 'anew'
    }
    state.kept = null
    if (!this.said) state.remark = NOTHING
    this.said = true
    return 'off'
  }

  /** Whether finished work of the run that is shown is kept, so that the next step can go on from it. */
  get keeps(): boolean {
    const { kept } = this.actions.state
    return kept !== null && !kept.pending
  }

  /** A plan with these options begins, on what is kept: whether layers that it fits are to be, too. */
  async planning(options: PlanOptions): Promise<boolean> {
    const { state } = this.actions
    if (!state.kept || state.kept.pending) return false
    const run: KeptRun = {
      ...state.kept,
      plan: null,
      planning: { ...options },
      judge: { ...state.choice.evaluation },
      ...besides(state),
    }
    if (!(await writeKept(run))) return false
    state.kept = run
    return true
  }

  /** Keeps the results that the page shows. */
  async made(): Promise<void> {
    const { state } = this.actions
    if (!state.kept || !state.maps) return
    const { maps, plan } = state
    const run: KeptRun = {
      ...state.kept,
      layers: maps.report.layers,
      at_ms: Date.now(),
      pending: false,
      maps,
      plan,
      planning: null,
      judge: { ...state.choice.evaluation },
      far: farOf(state),
      ...besides(state),
    }
    if (await writeKept(run)) Object.assign(state, { kept: run, restored: false })
  }

  /** Keeps what was measured of how far one can go, beside the results. */
  async measured(): Promise<void> {
    const { state } = this.actions
    const far = farOf(state)
    if (!state.kept || state.kept.pending || !far) return
    const run: KeptRun = { ...state.kept, far, judge: { ...state.choice.evaluation } }
    if (await writeKept(run)) state.kept = run
  }

  /** After a run that did not end in a result: what it left can be gone on with. */
  async stopped(): Promise<void> {
    const { state } = this.actions
    if (!state.kept?.pending) return
    const layers = await keptLayers()
    state.kept = layers > 0 || state.kept.maps ? { ...state.kept, layers } : null
  }

  /** Goes on with the run that was interrupted. Call it from a click: the browser may ask for permission. */
  async goOn(): Promise<void> {
    const { state } = this.actions
    const { kept } = state
    if (!kept || state.run) return
    try {
      if (!this.isOpen(kept) && !(await this.actions.open(await reopen(kept.origin)))) return
    } catch (thrown) {
      return this.actions.report(thrown, null)
    }
    Object.assign(state.calibration, kept.calibration)
    // As many sequences as then, whatever the machine manages now.
    if (state.usual.seconds !== null) state.usual = { ...state.usual, seconds: null }
    await this.actions.compare()
  }

  /** The model of the run that was interrupted was opened by hand: then the run goes on. */
  async recognise(): Promise<void> {
    const { kept } = this.actions.state
    if (kept?.pending && kept.layers > 0 && !canReopen(kept.origin) && this.isOpen(kept)) await this.goOn()
  }

  /** The model that a stored result belongs to, opened for the step that needs it. */
  async model(): Promise<'demo' | Opened | null> {
    const { kept, restored, model } = this.actions.state
    if (!restored) return null
    if (kept && canReopen(kept.origin)) return reopen(kept.origin)
    throw {
      kind: 'usage',
      message: `Open ${model?.name ?? 'the model'} again first: what is shown was kept, and this browser cannot open the model by itself.`,
    }
  }

  /** Whether `origin` is the model whose stored result is shown. */
  isShown(origin: 'demo' | Opened): boolean {
    const { kept, restored } = this.actions.state
    return restored && kept !== null && isSameModel(kept.origin, keptOrigin(origin))
  }

  /** Whether the model of a kept run is the one that is open. */
  isOpen(kept: KeptRun): boolean {
    const { origin, model } = this.actions.state
    return model !== null && origin !== null && isSameModel(kept.origin, keptOrigin(origin))
  }

  /** Removes all that is kept, and what is shown of it. */
  async forget(): Promise<void> {
    const { state } = this.actions
    if (state.run) return
    await removeKept()
    await forgetKept().catch(() => {})
    if (state.restored) {
      this.actions.forget('maps')
      Object.assign(state, { model: null, origin: null, ...NO_ESTIMATES })
    }
    Object.assign(state, { kept: null, restored: false })
  }

  private show({ origin, model, calibration, maps, plan, planning, judge, far, imatrix, sized }: KeptRun): void {
    const { state } = this.actions
    if (!maps) return
    state.usual = origin.kind === 'demo' ? USUAL_DEMO : { ...usualOf(model), seconds: null }
    Object.assign(state.calibration, calibration, maps.options)
    const planned = planning ?? plan?.options ?? far?.options
    if (planned) Object.assign(state.planOptions, planned)
    if (planning) state.remark = STOPPED
    if (judge) Object.assign(state.choice.evaluation, judge)
    Object.assign(state.writeOptions, {
      container: model.container,
      importances: plan?.report.output.importances ?? far?.importances ?? true,
    })
    if (sized) {
      state.choice.size = sized.size
      if (plan) storeAs(state.writeOptions, plan.report.output)
    }
    // The demo is part of the engine; anything else is opened when a step needs it, and not before.
    Object.assign(state, {
      model,
      origin: origin.kind === 'demo' ? 'demo' : null,
      maps,
      plan,
      search: sized?.search ?? null,
      imatrix: imatrix ?? null,
      costs: far?.costs ?? null,
      goal: far?.goal ?? state.goal,
      steps: plan?.report.plan.steps ?? [],
      restored: true,
    })
    this.actions.propose(!planned)
  }
}

/** How far one can go, where that was measured, with the settings that go with it; a plan by hand has none. */
function farOf({ costs, goal, planOptions, writeOptions }: State): KeptRun['far'] {
  if (!costs || costs.measured.length === 0) return undefined
  return {
    costs,
    goal,
    options: { ...planOptions, locked: [], absorb: [] },
    importances: writeOptions.importances ?? true,
  }
}

/** The file of importances that is used and the size that is asked for, where they are. What was kept of others is left out. */
function besides({ imatrix, targetSize: size, search }: State): Pick<KeptRun, 'imatrix' | 'sized'> {
  return { imatrix: imatrix ?? undefined, sized: size === null ? undefined : { size, search } }
}

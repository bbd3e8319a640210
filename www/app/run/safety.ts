import type { Actions } from '../actions'
import { isCancelled, toEngineError } from '../../engine/errors'
import type { EngineClient } from '../../engine/client'
import type { Kept } from '../../engine/protocol/events'
import { sentence } from '../../ui/format'
import type { Run, RunKind } from '../state.svelte'
import { Awake } from './awake'
import { Keeping } from '../../keep/keeping'
import { Turns, type Turn } from './turn'

/** Runs that can wait between two steps. */
const PAUSABLE: readonly RunKind[] = ['similarity', 'costs', 'plan', 'sizes', 'heal', 'compare', 'write']

/** A lost device is replaced once; after a second loss the run goes on on the CPU. */
const NEW_DEVICES = 1

const WORDS: Record<RunKind, string> = {
  open: 'opening',
  similarity: 'comparing the layers of',
  metric: 'comparing the layers, by another metric, of',
  costs: 'measuring how far one can go with',
  plan: 'compressing',
  sizes: 'fitting with less text',
  heal: 'healing what became of',
  compare: 'comparing methods on',
  write: 'writing what became of',
  push: 'sending to a hub what became of',
  try: 'trying what became of',
  speed: 'measuring the speed of what became of',
  speeds: 'measuring the speed of models made of',
}

export function isPausable(run: Run): boolean {
  return PAUSABLE.includes(run.kind) && !run.waiting && !run.cancelling
}

/** What makes a long run safe: one at a time, the screen on, pauses, and going on after a device was lost. */
export class Safety {
  readonly keeping: Keeping
  private readonly turns: Turns
  private awake: Awake | null = null

  constructor(
    private readonly actions: Actions,
    private readonly client: EngineClient,
  ) {
    this.keeping = new Keeping(actions)
    this.turns = new Turns(turn => this.heardOf(turn))
    client.onheld = () => this.held()
  }

  async start(): Promise<void> {
    this.turns.start()
    await this.keeping.start()
  }

  /** Does the work of a run; opening a model may go on beside another tab's run, the rest waits for its turn. */
  async guard(run: Run, work: () => Promise<void>): Promise<void> {
    const { state } = this.actions
    state.remark = null
    if (run.kind === 'open') return work()
    const awake = (this.awake = new Awake())
    const describe = () => ({
      what: `${WORDS[run.kind]} ${state.model?.name ?? 'a model'}`,
      where: state.run?.last?.progress.detail ?? '',
    })
    const waiting = () => this.change({ waiting: true })
    try {
      await this.turns.take(describe, run.controller.signal, waiting, async () => {
        this.change({ waiting: false })
        awake.on()
        await this.persist(run, work)
      })
    } finally {
      awake.off()
      this.awake = null
      this.client.hold(false)
    }
  }

  pause(): void {
    const { run } = this.actions.state
    if (!run || !isPausable(run) || run.pause !== 'no') return
    this.change({ pause: 'asked' })
    this.client.hold(true)
  }

  resume(): void {
    const { run } = this.actions.state
    if (!run || run.pause === 'no') return
    // The time that it waited says nothing of how fast it goes.
    const now = run.last && { ...run.last, at_ms: performance.now() }
    this.change({ pause: 'no', first: now, last: now, layersFrom: null })
    this.client.hold(false)
    this.awake?.on()
  }

  /** The engine says what would survive. */
  heard(kept: Kept): void {
    this.change({ kept })
    if (kept.trouble) this.actions.state.remark = sentence(kept.trouble)
    this.turns.tell()
  }

  private heardOf(turn: Turn | null): void {
    const { state } = this.actions
    const ended = state.elsewhere !== null && turn === null
    state.elsewhere = turn
    if (ended) void this.keeping.refresh().catch(() => {})
  }

  private held(): void {
    if (this.actions.state.run?.pause !== 'asked') return
    this.change({ pause: 'held' })
    this.awake?.off()
  }

  /** Where the graphics device is lost or stops the engine, the same work again: what the engine kept is not computed twice. */
  private async persist(run: Run, work: () => Promise<void>): Promise<void> {
    const { state } = this.actions
    for (let losses = 0; ; losses++) {
      const before = state.device
      try {
        return await work()
      } catch (thrown) {
        const error = toEngineError(thrown)
        // What stops the engine on a graphics device would stop it there again.
        const stopped = error.kind === 'internal'
        const lost = (error.kind === 'device' || stopped) && before !== null && before.kind !== 'cpu'
        if (!lost || isCancelled(error) || run.controller.signal.aborted) throw thrown
        const onCpu = stopped || losses >= NEW_DEVICES
        if (onCpu) this.actions.prefer('cpu')
        else this.client.restart()
        state.remark = `${stopped ? 'The engine stopped on the graphics device' : 'The graphics device was lost'}; the run goes on with what was kept, on ${onCpu ? 'the CPU' : 'a new device'}.`
        state.steps = []
        this.change({ first: null, last: null, kept: null, layersFrom: null })
      }
    }
  }

  private change(fields: Partial<Run>): void {
    const { state } = this.actions
    if (state.run) state.run = { ...state.run, ...fields }
  }
}

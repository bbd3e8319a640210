import type { EngineClient } from '../engine/client'
import type { CompareOptions } from '../engine/protocol/compare'
import { toEngineError } from '../engine/errors'
import type { State } from './state.svelte'
import { storedAs, storedForSize } from '../words/types'
import { calibrationOf, evaluationOf, limitSequences } from '../text/texts'

/** Nothing is known of a model that has just been opened. */
export const NO_ESTIMATES = { estimate: null, planEstimate: null, compareEstimate: null }

/** Asks once what decides an estimate has not changed for a moment: for an effect, which takes it back. */
export function soon(ask: () => Promise<void>): () => void {
  const timer = setTimeout(() => void ask(), 250)
  return () => clearTimeout(timer)
}

/** What runs would take, asked of the engine between runs. Quietly given up when something else begins. */
export class Estimates {
  private asking = { similarity: new AbortController(), plan: new AbortController(), compare: new AbortController() }

  /** `ready` opens the model where the engine has started anew. */
  constructor(
    private readonly state: State,
    private readonly client: EngineClient,
    private readonly ready: () => Promise<void>,
  ) {}

  stop(): void {
    for (const controller of Object.values(this.asking)) controller.abort()
  }

  /** Memory and time of the next comparison of layers. */
  async similarity(): Promise<void> {
    await this.ask(
      'similarity',
      async still => {
        await limitSequences(this.state, (...args) => this.client.call(null, 'sequencesWithin', args), still)
        const estimate = await this.client.call(null, 'estimate', [await calibrationOf(this.state)])
        if (still()) Object.assign(this.state, { estimate, estimateError: null })
      },
      thrown => Object.assign(this.state, { estimate: null, estimateError: toEngineError(thrown) }),
    )
  }

  /** Memory and time of the next plan. */
  async plan(): Promise<void> {
    const none = () => Object.assign(this.state, { planEstimate: null })
    // A plan as it came is measured, whatever it takes; nothing is chosen.
    if (this.state.hand.present.exact) return void none()
    await this.ask(
      'plan',
      async still => {
        const { chosenPlan, targetSize, writeOptions } = this.state
        const [calibration, judge] = [await calibrationOf(this.state), await evaluationOf(this.state)]
        const planEstimate =
          targetSize === null
            ? await this.client.call(null, 'estimatePlan', [calibration, chosenPlan, { ...writeOptions }, judge])
            : await this.client.call(null, 'estimateSize', [
                calibration,
                chosenPlan,
                storedForSize(writeOptions),
                judge,
              ])
        if (still()) Object.assign(this.state, { planEstimate })
      },
      none,
    )
  }

  /** Takes as many sequences of the text as comparing the layers and the plan manage in so many seconds. */
  async allow(seconds: number): Promise<void> {
    await this.ask(
      'plan',
      async still => {
        const samples = await this.client.call(null, 'sequencesWithin', [
          seconds,
          await calibrationOf(this.state),
          this.state.chosenPlan,
          { ...this.state.writeOptions },
          await evaluationOf(this.state),
        ])
        if (still()) this.state.calibration.samples = samples
      },
      thrown => Object.assign(this.state, { estimateError: toEngineError(thrown) }),
    )
  }

  /** Memory and time of the next comparison of methods. */
  async compare(options: CompareOptions): Promise<void> {
    await this.ask(
      'compare',
      async still => {
        const compareEstimate = await this.client.call(null, 'estimateCompare', [
          await calibrationOf(this.state),
          { ...options, evaluation: await evaluationOf(this.state, options.evaluation), output: storedAs(this.state) },
        ])
        if (still()) Object.assign(this.state, { compareEstimate })
      },
      () => Object.assign(this.state, { compareEstimate: null }),
    )
  }

  private async ask(
    what: keyof Estimates['asking'],
    work: (still: () => boolean) => Promise<void>,
    failed: (thrown: unknown) => void,
  ): Promise<void> {
    if (this.state.run || !this.state.model || !this.state.origin) return
    this.asking[what].abort()
    const { signal } = (this.asking[what] = new AbortController())
    try {
      await this.ready()
      await work(() => !signal.aborted)
    } catch (thrown) {
      if (!signal.aborted) failed(thrown)
    }
  }
}

/** Whether more calibration text would make a fitted model better: what to try, and how to read what came of it. */
import type { Actions } from '../app/actions'
import { isCancelled, toEngineError } from '../engine/errors'
import type { CalibrationPoint } from '../engine/protocol/quality'
import { percent } from '../ui/format'
import { evaluationOf } from '../text'

/** Smaller changes of KL are not told from chance. */
const NOTHING = 0.02

/** An eighth, a quarter, half and all of the sequences that there are, each number once, ascending; never fewer than two. */
export function sizesFor(sequences: number): number[] {
  const all = [8, 4, 2, 1].map(part => Math.min(sequences, Math.max(2, Math.round(sequences / part))))
  return [...new Set(all)]
}

/**
 * Fits the plan that was made anew with less text, and keeps each point as it comes. A stop keeps those that came;
 * so does a failure, which is told.
 */
export function measureSizes(actions: Actions): Promise<boolean> {
  return actions.during('sizes', async run => {
    const { state } = actions
    await actions.ensureMaps(run)
    const { plan, maps } = state
    if (!plan || !maps) throw { kind: 'usage', message: 'Compress first; there is nothing to fit anew yet.' }
    const wanted = sizesFor(maps.report.text.sequences)
    state.sizes = { key: plan.key, wanted, points: [] }
    try {
      const points = await actions.call(run, 'calibrationCurve', [
        plan.report.plan,
        wanted,
        plan.report.output,
        await evaluationOf(state),
      ])
      state.sizes = points.length > 0 ? { key: plan.key, wanted, points } : null
    } catch (thrown) {
      const points = state.sizes?.points.length ?? 0
      if (points === 0) state.sizes = null
      if (points === 0 || !isCancelled(toEngineError(thrown))) throw thrown
    }
  })
}

/** What the last two sizes say about a larger one, as one sentence; empty where there are not two. */
export function readingOf(points: readonly CalibrationPoint[]): string {
  const [before, last] = points.slice(-2)
  if (!before || !last) return ''
  const [from, to] = [before.quality.kl, last.quality.kl]
  if (from === null || to === null || !(from > 0) || !Number.isFinite(from) || !Number.isFinite(to))
    return 'KL could not be measured at the last two sizes, so they say nothing about more text.'
  const more = last.tokens / before.tokens
  const doubled = Math.abs(more - 2) < 0.05
  const change = to / from - 1
  if (Math.abs(change) < NOTHING)
    return `${doubled ? 'The last doubling' : 'The last step'} changed KL by less than ${100 * NOTHING}\u00a0%: more text would hardly help.`
  const much = doubled ? 'Twice as much text' : `${more.toFixed(1)} times as much text`
  if (change > 0)
    return `${much} raised KL by ${percent(change)}: it is not for want of text, and more of this kind would hardly help.`
  return `${much} lowered KL by ${percent(-change)}; more would probably help.`
}

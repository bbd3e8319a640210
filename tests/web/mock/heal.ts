import type { Observe } from '../../../www/engine/protocol/engine'
import type { HealOptions, HealPoint } from '../../../www/engine/protocol/heal'
import type { PlanReport } from '../../../www/engine/protocol/plan'
import type { TextReport } from '../../../www/engine/protocol/text'
import { wait } from './tell'

/** Steps of a healing, and how much of the divergence is left after the last. */
const [STEPS, LEFT] = [24, 0.6]

/** The divergence falls as an exponential would; a stop keeps what has been reached. */
export async function healOf(
  before: PlanReport,
  text: TextReport,
  options: HealOptions,
  observe: Observe,
): Promise<PlanReport> {
  const perStep = (options.sequences ?? 4) * text.tokens_per_sequence
  const kl = before.merged.kl ?? 1
  const at = (step: number): HealPoint => ({
    tokens: step * perStep,
    loss: step === 0 ? null : 0.8 * kl * LEFT ** (step / STEPS),
    quality: { ...before.merged, kl: kl * LEFT ** (step / STEPS) },
    seconds: step * 0.08,
  })
  const points = [at(0)]
  let stopped = await observe({ heal: points[0]! })
  let step = 0
  while (step < STEPS && !stopped) {
    const detail = `step ${step + 1} of ${STEPS}`
    stopped = await observe({
      progress: { stage: 'heal', done: step * perStep, total: STEPS * perStep, unit: 'tokens', detail },
    })
    if (stopped) break
    await wait(80)
    step++
    if (step % 2 === 0) {
      points.push(at(step))
      stopped = await observe({ heal: points.at(-1)! })
    }
  }
  return {
    ...before,
    merged: points.at(-1)!.quality,
    healed: {
      options,
      text,
      layers: before.plan.groups.flatMap((group, place) => (group.length > 1 ? [place] : [])),
      parameters: 1e5,
      tokens: step * perStep,
      points,
      best: points.length - 1,
      stopped: stopped ? 'The healing was stopped before its end, and the best model until then was kept.' : null,
      seconds: step * 0.08,
    },
  }
}

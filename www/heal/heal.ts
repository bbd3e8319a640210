/** Healing: what is asked for, and how to read what came of it. */
import type { Actions } from '../app/actions'
import type { HealPoint } from '../engine/protocol/heal'
import type { PlanReport } from '../engine/protocol/plan'
import { nats, percent } from '../ui/format'
import { evaluationOf } from '../text'

/** Minutes that can be chosen. */
export const MINUTES = [1, 5, 20, 60] as const

/** Nats a token below which a model says the same as its original, as far as readers can tell. */
const NEAR = 0.01

/** Smaller changes of KL are not told from chance. */
const NOTHING = 0.02

/** Trains the merged layers for some minutes. A stop keeps the best model so far. */
export function heal(actions: Actions, minutes: number): Promise<boolean> {
  return actions.during('heal', async run => {
    const { state } = actions
    await actions.ensureMaps(run)
    const { plan } = state
    if (!plan) throw { kind: 'usage', message: 'Compress first; there is nothing to heal yet.' }
    state.healing = []
    actions.forget('saved')
    try {
      const report = await actions.call(run, 'heal', [
        plan.report.plan,
        plan.report.output,
        { seconds: 60 * minutes },
        await evaluationOf(state),
        actions.safety.keeping.keeps,
      ])
      state.plan = { ...plan, report }
      actions.held.gotHealed()
    } finally {
      state.healing = []
    }
  })
}

/** Why a plan cannot be healed; empty where it can, as far as the page knows. */
export function cannotHeal({ plan }: PlanReport): string {
  return plan.groups.some(group => group.length > 1)
    ? ''
    : 'Healing trains the layers that were made of several, and this plan makes none.'
}

/** Why healing promises little; empty where it may help. */
export function littleToHeal({ merged }: PlanReport): string {
  return merged.kl !== null && merged.kl < NEAR
    ? `The model is within ${nats(merged.kl)} of the original already, so there is little to heal.`
    : ''
}

/** What the healing was worth, as one sentence; empty where there is nothing to say. */
export function readingOf(points: readonly HealPoint[], best: number): string {
  const [before = null, after = null] = [points[0]?.quality.kl, points[best]?.quality.kl]
  if (points.length < 2 || before === null || after === null || !(before > 0)) return ''
  if (best === 0) return 'Training found nothing better, so the model stays as it was merged.'
  const change = 1 - after / before
  if (change < NOTHING)
    return 'Healing changed next to nothing: what is missing is not in these layers, or needs more time.'
  return `Healing took away ${percent(change)} of what the merging had cost in KL.`
}

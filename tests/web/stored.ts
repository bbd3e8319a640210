import { CALIBRATION, PLAN, WRITE } from '../../www/app/defaults'
import demo from '../../www/walk/demo-result.json'
import type { PlanOptions, PlanReport } from '../../www/engine/protocol/plan'
import type { SimilarityReport } from '../../www/engine/protocol/similarity'
import { planOf } from './mock/plan'

/** The result that the page opens with; its text was taken from the beginning. */
export const stored = { ...demo, options: { ...CALIBRATION, ...demo.options } } as unknown as SimilarityReport

export const planOptions: PlanOptions = { ...PLAN, remove: 7 }

/** The stored merge run as the engine reports it. */
export function goldenPlan(remove: number): Promise<PlanReport> {
  return planOf(stored, { ...planOptions, remove }, async () => false, stored.device, { ...WRITE })
}

/** The same layers by the recommended method: judged on a text of its own, and measured only once it is whole. */
export function fittedPlan(remove: number): Promise<PlanReport> {
  return planOf(
    stored,
    { ...planOptions, remove, operator: 'pool-refit', one_shot: true, longest_run: 4 },
    async () => false,
    stored.device,
    { ...WRITE },
  )
}

/** To three decimals, so that a snapshot does not depend on the last bits. */
export function rounded(value: number): number {
  return Math.round(value * 1000) / 1000
}

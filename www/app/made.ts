import type { CostCurve } from '../charts/costs'

/** A result and the settings it was made with. */
export interface Made<T, O> {
  report: T
  key: string
  options: O
}

/** What removing layers costs, and what that rests on. */
export interface Costs extends CostCurve {
  key: string
}

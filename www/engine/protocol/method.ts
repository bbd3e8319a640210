/** Which layers go, and what becomes of them. */

/** Which layers go; documented in `src/plan/method.rs`. */
export type Selection =
  | 'mka'
  | 'redundancy'
  | 'bi'
  | 'angular'
  | 'pairs'
  | 'greedy-nll'
  | 'greedy-kl'
  | 'laco'
  | 'tail'
  | 'reverse'
  | 'random'
  | 'hand'
/** What becomes of a run of layers that turns into one; documented there too. */
export type Operator =
  'drop' | 'average' | 'match-experts' | 'laco' | 'scale' | 'replaceme' | 'flatten' | 'refit' | 'pool-refit'

/** Which experts go, where some are removed; documented there too. */
export type ExpertSelection = 'reap' | 'frequency' | 'random'

/** A method that has a name: a selection and an operator. */
export interface NamedMethod {
  name: string
  title: string
  selection: Selection
  operator: Operator
  one_shot: boolean
  /** What it asks of plans, as in `PlanOptions`. */
  longest_run: number | null
  candidates: number | null
  /** One sentence, with its source. */
  about: string
}

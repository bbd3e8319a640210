/** Which layers go, and what becomes of them. Made by `npm run protocol` from src/protocol/; not to be edited. */

/** Selection rule: which layers are absorbed into their neighbours. */
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

/** Operator: how a span of layers becomes one layer. */
export type Operator =
  'average' | 'match-experts' | 'drop' | 'laco' | 'scale' | 'replaceme' | 'flatten' | 'refit' | 'pool-refit'

/** Rule that chooses which experts of a layer are removed. */
export type ExpertSelection = 'reap' | 'frequency' | 'random'

/** Method: a selection and an operator, with the options that go with them. */
export type NamedMethod = {
  /** Name on the command line and in JSON. */
  name: string
  /** Usual name in prose. */
  title: string
  /** Rule that chooses the layers. */
  selection: Selection
  /** Operator that turns a span into one layer. */
  operator: Operator
  /** Whether pairs are ranked only once, for `Selection::Mka`. */
  one_shot: boolean
  /** Default of `PlanOptions::longest_span`. */
  longest_run: number | null
  /** Default of `PlanOptions::candidates`. */
  candidates: number | null
  /** Description in one sentence, with its source. */
  about: string
}

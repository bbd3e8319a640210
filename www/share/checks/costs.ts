/** Checks of a curve that says how far one can go. */
import { type Cost, type Goal, type SharedCosts, type Whole } from '../../charts/costs'
import {
  type Check,
  either,
  flag,
  integer,
  list,
  maybeInfinite,
  MOST,
  nullable,
  number,
  oneOf,
  record,
  refuse,
  text,
} from './check'
import { count, layers, share } from './facts'

/** More models than any run makes. */
const MOST_MODELS = 64

const whole = record<Whole>({ layers, bytes: integer(1), perplexity: maybeInfinite })

const cost = record<Cost>({
  removed: integer(1, MOST.layers),
  bytes: count,
  perplexity: maybeInfinite,
  kl: nullable(number()),
  agreement: nullable(share),
  collapsed: flag,
})

const fields = record<SharedCosts>({
  method: text,
  text,
  goal: either<'jump', number>(oneOf('jump'), share) as Check<Goal>,
  whole,
  measured: list(cost, { least: 1, most: MOST_MODELS }),
})

/** Each number of layers is measured once, and one layer stays. */
export const sharedCosts: Check<SharedCosts> = (value, at) => {
  const costs = fields(value, at)
  const seen = new Set<number>()
  for (const [i, { removed }] of costs.measured.entries()) {
    const here = [at[0], `${at[1]}.measured[${i}].removed`] as const
    if (removed >= costs.whole.layers)
      refuse(here, `is ${removed} of ${costs.whole.layers} layers, and one has to stay`)
    if (seen.has(removed)) refuse(here, `is ${removed}, as in an entry before`)
    seen.add(removed)
  }
  return costs
}

import type { Graph } from './geometry'
import { picked, randomFrom, spread, variation } from './operator'
import { entryOf, rowOf } from './square'

/** A walk on a layer's graph: one walker that draws its steps, and the chances of all that could walk. */
export class Walker {
  playing = $state(false)
  steps = $state(0)
  at = $state(0)
  /** Where the last step came from, and how likely it was. */
  from = $state<number | null>(null)
  chance = $state<number | null>(null)
  visits = $state.raw<number[]>([])
  /** Chances of being at each text after so many steps. */
  spread = $state.raw<Float64Array>(new Float64Array())
  #random = randomFrom(1)

  constructor(
    readonly graph: () => Graph,
    readonly start: () => number,
  ) {
    this.restart()
  }

  /** Half the summed difference to where a long walk is: 1 at most. */
  get fromLongRun(): number {
    return variation(this.spread, this.graph().longRun)
  }

  step() {
    const { p } = this.graph()
    const to = picked(rowOf(p, this.at), this.#random())
    this.chance = entryOf(p, this.at, to)
    this.from = this.at
    this.at = to
    this.visits = this.visits.with(to, this.visits[to]! + 1)
    this.spread = spread(p, this.spread)
    this.steps++
  }

  restart() {
    const start = this.start()
    const { n } = this.graph().p
    this.#random = randomFrom(start + 1)
    this.playing = false
    this.steps = 0
    this.at = start
    this.from = this.chance = null
    this.visits = Array.from({ length: n }, (_, i) => Number(i === start))
    this.spread = Float64Array.from(this.visits)
  }
}

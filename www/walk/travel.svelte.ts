import { untrack } from 'svelte'
import { cubicOut } from 'svelte/easing'
import { prefersReducedMotion, Tween } from 'svelte/motion'

/** How long points take from where they were to where they belong. */
const TRAVEL_MS = 300

/** Numbers that place points, in lists with one number a point. */
export type Places = Record<string, readonly number[]>

/**
 * Points that travel when a layer or a bandwidth changes, so that the eye can follow each of them. A move that is
 * interrupted goes on from where the points are. With reduced motion, and when `frame` (the size of the picture)
 * changes, the points are at once where they belong. A `Travel` is made while a component is initialised.
 */
export class Travel<T extends Places> {
  readonly #tween: Tween<T>
  readonly #target: () => T

  constructor(target: () => T, frame: () => string = () => '') {
    this.#target = target
    this.#tween = new Tween(target(), { duration: TRAVEL_MS, easing: cubicOut })
    let framed = frame()
    $effect.pre(() => {
      const [to, size, still] = [target(), frame(), prefersReducedMotion.current]
      const atOnce = still || size !== framed
      framed = size
      untrack(() => (atOnce ? this.#jump(to) : this.#go(to)))
    })
  }

  #jump(to: T) {
    void this.#tween.set(to, { duration: 0 })
  }

  #go(to: T) {
    const from = asMany(this.#tween.current, to)
    if (from !== this.#tween.current) this.#jump(from)
    if (from !== to) void this.#tween.set(to)
  }

  /** Where the points are now. */
  get current(): T {
    return this.#tween.current
  }

  /** Whether the points are still on their way. */
  get moving(): boolean {
    return this.#tween.current !== this.#target()
  }
}

/** The places of as many points as `to` has: those that are new stand where they belong already. */
export function asMany<T extends Places>(from: T, to: T): T {
  const names = Object.keys(to)
  if (names.every(name => from[name]?.length === to[name]?.length)) return from
  return Object.fromEntries(
    names.map(name => [name, to[name]!.map((value, i) => from[name]?.[i] ?? value)]),
  ) as Places as T
}

/** Steps of the arrow keys among things that stand in a row, or one above the other from below. */
const ALONG: Readonly<Record<string, number>> = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }

/** The same among things that stand below each other, the first one on top. */
export const DOWNWARDS: typeof ALONG = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }

/** With larger steps by the keys that turn pages. */
export const WITH_PAGES: typeof ALONG = { ...ALONG, PageUp: 10, PageDown: -10 }

/**
 * The place to which a key leads from `place`, one of `count` places from 0, or -1 for none: a neighbour, the first or the
 * last. The key then does nothing else. Null for any other key, and where there is no place.
 */
export function placeAfter(event: KeyboardEvent, place: number, count: number, steps = ALONG): number | null {
  const step = steps[event.key]
  const to = step
    ? place < 0 && step < 0
      ? count - 1
      : place + step
    : ({ Home: 0, End: count - 1 }[event.key] ?? null)
  if (to === null || count === 0) return null
  event.preventDefault()
  return Math.max(0, Math.min(count - 1, to))
}

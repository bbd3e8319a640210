/** An increase of so many nats a token is no jump, whatever came before it. */
const NOTHING = 0.02
/** How many times the usual increase is a jump. */
const JUMP = 2

/**
 * How many merges come before the elbow of a curve: the last step before the first jump. `values` are the
 * KL divergences after each merge, from 0 before the first; null where one was not measured.
 *
 * A step is a jump where its increase is more than twice the median of the increases before it and more than
 * 0.02 nats, or where its value is not finite. The median, because one cheap or dear merge should not move the
 * yardstick; the floor, because twice next to nothing is next to nothing. The first merge has nothing to be
 * compared with, so it is no jump while its value is finite. Steps that were not measured share the increase to
 * the next that was.
 */
export function elbow(values: readonly (number | null)[]): number {
  const increases: number[] = []
  let [kept, before] = [0, 0]
  for (const [index, value] of values.entries()) {
    if (value === null) continue
    const steps = index + 1 - kept
    const increase = (value - before) / steps
    const usual = median(increases)
    if (!Number.isFinite(increase) || (usual !== null && increase > Math.max(JUMP * usual, NOTHING))) return kept
    increases.push(...Array<number>(steps).fill(increase))
    kept = index + 1
    before = value
  }
  return kept
}

/** Of KL after each merge, never beyond a model that has collapsed. */
export function elbowOf(steps: readonly { kl: number | null; collapsed: boolean }[]): number {
  const collapse = steps.findIndex(step => step.collapsed)
  return elbow(steps.slice(0, collapse < 0 ? steps.length : collapse).map(step => step.kl))
}

function median(values: readonly number[]): number | null {
  if (values.length === 0) return null
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  return Number.isInteger(middle) ? (sorted[middle - 1]! + sorted[middle]!) / 2 : sorted[Math.floor(middle)]!
}

/** A fall this small, as a share of the whole scale, is no elbow. */
const FLAT = 0.05

/**
 * How many of the highest similarities come before the curve falls: the point of a descending curve that lies
 * farthest above the line from its first to its last point (Satopää et al., "Finding a Kneedle in a Haystack",
 * 2011, without smoothing). Null where there are fewer than three, and where none lies more than 0.05 above it,
 * which is a curve that falls evenly.
 */
export function similarityElbow(descending: readonly number[]): number | null {
  const last = descending.length - 1
  if (last < 2) return null
  const [first, end] = [descending[0]!, descending[last]!]
  const above = descending.map((value, i) => value - (first + ((end - first) * i) / last))
  const best = above.indexOf(Math.max(...above))
  return above[best]! > FLAT ? best + 1 : null
}

import type { StoredMerge } from './stored'

/** `alpha a + (1 - alpha) b`, entry by entry. */
export function blended(
  a: readonly (readonly number[])[],
  b: readonly (readonly number[])[],
  alpha: number,
): number[][] {
  return a.map((row, i) => row.map((value, j) => alpha * value + (1 - alpha) * b[i]![j]!))
}

/** The weights of both layers that a merge takes, `merges` being those up to it: earlier merges have made them. */
export function enteringMerge(
  weights: readonly number[][][],
  merges: readonly StoredMerge[],
): [number[][], number[][]] {
  const live = weights.map((corner, layer) => ({ first: layer, corner }))
  const at = ({ merged: [group] }: StoredMerge) => live.findIndex(({ first }) => first === group[0])
  for (const merge of merges.slice(0, -1)) {
    const l = at(merge)
    live.splice(l, 2, { first: live[l]!.first, corner: blended(live[l]!.corner, live[l + 1]!.corner, merge.alpha) })
  }
  const l = at(merges.at(-1)!)
  return [live[l]!.corner, live[l + 1]!.corner]
}

/** The groups before a merge: each layer alone before the first. */
export function groupsBefore(merges: readonly StoredMerge[], index: number, layers: number): number[][] {
  return merges[index - 1]?.groups ?? Array.from({ length: layers }, (_, layer) => [layer])
}

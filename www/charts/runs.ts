/**
 * The runs of two layers or more, of `n` layers in a row, that together remove `k` layers, or as many below that as can
 * be, at the least sum of `cost(first, last)`; a run that may not be costs null. As `cheapest` of `src/plan/spans.rs`,
 * so that the page can foretell what the engine will choose.
 */
export function cheapestRuns(
  n: number,
  k: number,
  longest: number,
  cost: (first: number, last: number) => number | null,
): [first: number, last: number][] {
  const best: [sum: number, length: number][][] = Array.from({ length: n + 1 }, () => [])
  const at = (i: number, r: number) => best[i]![r] ?? [Infinity, 1]
  best[n] = [[0, 1]]
  for (let i = n - 1; i >= 0; i--) {
    const row = (best[i] = Array.from({ length: k + 1 }, (_, r): [number, number] => [at(i + 1, r)[0], 1]))
    for (let length = 2; length <= Math.min(longest, n - i, k + 1); length++) {
      const more = cost(i, i + length - 1)
      if (more === null) break
      for (let r = length - 1; r <= k; r++) {
        const sum = more + at(i + length, r + 1 - length)[0]
        if (sum < row[r]![0]) row[r] = [sum, length]
      }
    }
  }
  let left = k
  while (left > 0 && at(0, left)[0] === Infinity) left--
  const runs: [number, number][] = []
  for (let i = 0; i < n;) {
    const [, length] = at(i, left)
    if (length > 1) runs.push([i, i + length - 1])
    left -= length - 1
    i += length
  }
  return runs
}

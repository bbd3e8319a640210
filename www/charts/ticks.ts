/** Powers of ten from 10 000 on as powers, so that a collapse fits beside the axis. */
export function tickLabel(value: number): string {
  const power = Math.round(Math.log10(value))
  return power >= 4
    ? `10${[...String(power)].map(digit => '⁰¹²³⁴⁵⁶⁷⁸⁹'[Number(digit)]).join('')}`
    : String(Number(value.toPrecision(6)))
}

/** Of the many ticks of a logarithmic scale those at 1, 2 and 5, where there are at least two. */
export function logTicks(ticks: readonly number[]): number[] {
  const round = ticks.filter(tick =>
    [1, 2, 5].includes(Number((tick / 10 ** Math.floor(Math.log10(tick) + 1e-9)).toFixed(6))),
  )
  return round.length >= 2 ? round : [...ticks]
}

/** Values of KL that are round, for a square-root scale from 0. */
export const KL_TICKS: readonly number[] = [
  0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50,
]

/** Ticks with room between them, the first kept. */
export function spaced<T extends { at: number }>(ticks: readonly T[], room: number): T[] {
  const kept: T[] = []
  for (const tick of ticks) if (!kept.length || Math.abs(kept.at(-1)!.at - tick.at) >= room) kept.push(tick)
  return kept
}

/** Pixels between the labels of a vertical axis. */
const LABEL_ROOM = 22

/** The labelled ticks of a vertical axis at `values`, as far as there is room for them. */
export function verticalTicks(
  values: readonly number[],
  at: (value: number) => number,
): { value: number; at: number; label: string }[] {
  return spaced(
    values.map(value => ({ value, at: at(value), label: tickLabel(value) })),
    LABEL_ROOM,
  )
}

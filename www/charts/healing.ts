import { scaleLinear } from 'd3-scale'
import { line } from 'd3-shape'
import type { HealPoint } from '../engine/protocol/heal'
import { nats, whole } from '../ui/format'
import { scaleOf } from './curve'
import { verticalTicks } from './ticks'

export interface HealMark {
  tokens: number
  /** Nats a token. */
  kl: number
  x: number
  y: number
}

export interface HealingChart {
  marks: HealMark[]
  /** Index of the lowest. */
  best: number
  path: string
  /** Where the model lies from which the same layers were dropped, if it is on the axis. */
  dropped: number | null
  xTicks: { value: number; at: number; label: string }[]
  yTicks: { value: number; at: number; label: string }[]
  /** The picture in words. */
  words: string
}

/** How far above the model that was not healed the axis reaches at most, so that a fall can be seen. */
const HIGHEST = 1.5

/**
 * KL on the held-out text against tokens of training, both linear and from 0, so that what is gained can be compared with
 * what is left. `expected` is the number of tokens that the axis holds from the start.
 */
export function healingChart(
  points: readonly HealPoint[],
  { width, height, expected, dropped }: { width: number; height: number; expected: number; dropped: number | null },
): HealingChart {
  const known = points.flatMap(({ tokens, quality: { kl } }) =>
    kl !== null && Number.isFinite(kl) ? [{ tokens, kl }] : [],
  )
  const most = Math.max(expected, known.at(-1)?.tokens ?? 0, 1)
  const x = scaleLinear([0, most], [0, width])
  const highest = Math.max(...known.map(point => point.kl), 0)
  const shown = dropped !== null && dropped <= HIGHEST * highest ? dropped : null
  const y = scaleOf([...known.map(point => point.kl), ...(shown === null ? [] : [shown])], 1, 'kl', [height, 0])
  const marks = known.map(point => ({ ...point, x: x(point.tokens), y: y(point.kl) }))
  const best = marks.reduce((least, mark, i) => (mark.kl < (marks[least]?.kl ?? Infinity) ? i : least), 0)
  return {
    marks,
    best,
    path:
      line<HealMark>()
        .x(mark => mark.x)
        .y(mark => mark.y)(marks) ?? '',
    dropped: shown === null ? null : y(shown),
    xTicks: x.ticks(4).map(value => ({ value, at: x(value), label: whole(value) })),
    yTicks: known.length === 0 ? [] : verticalTicks(y.ticks(4), y),
    words: `KL on the held-out text by tokens of healing: ${marks.map(mark => `${whole(mark.tokens)}, ${nats(mark.kl)}`).join('; ') || 'nothing measured yet'}.`,
  }
}

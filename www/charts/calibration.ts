import { scaleLog } from 'd3-scale'
import { line } from 'd3-shape'
import type { CalibrationPoint } from '../engine/protocol/quality'
import { nats } from '../ui/format'
import { scaleOf } from './curve'
import { verticalTicks } from './ticks'

export interface SizeMark {
  tokens: number
  sequences: number
  /** Nats a token. */
  kl: number
  x: number
  y: number
  label: string
  collapsed: boolean
}

export interface CalibrationChart {
  marks: SizeMark[]
  path: string
  /** One for each size that is wanted, measured or not yet. */
  xTicks: { tokens: number; sequences: number; at: number; measured: boolean }[]
  yTicks: { value: number; at: number; label: string }[]
}

export interface CalibrationFrame {
  width: number
  height: number
  /** Sequences of all sizes that are to be measured, ascending. */
  wanted: readonly number[]
  /** Tokens in each sequence. */
  each: number
}

/**
 * KL on the held-out text against tokens of calibration: linear from 0, so that what a doubling takes away can be
 * compared with what is left; tokens logarithmic, so that each doubling is a step of the same length. The axis
 * holds all sizes from the start, and points fill in.
 */
export function calibrationChart(
  points: readonly CalibrationPoint[],
  { width, height, wanted, each }: CalibrationFrame,
): CalibrationChart {
  const [least = 1, most = 1] = [wanted[0], wanted.at(-1)]
  const x = least < most ? scaleLog([least, most], [0, width]) : () => width / 2
  const known = points.filter(({ quality: { kl } }) => kl !== null && Number.isFinite(kl))
  const y = scaleOf(
    known.map(point => point.quality.kl ?? 0),
    1,
    'kl',
    [height, 0],
  )
  const marks = known.map(({ sequences, tokens, quality: { kl, collapsed } }): SizeMark => ({
    sequences,
    tokens,
    kl: kl ?? 0,
    x: x(sequences),
    y: y(kl ?? 0),
    label: nats(kl ?? 0),
    collapsed,
  }))
  return {
    marks,
    path:
      line<SizeMark>()
        .x(m => m.x)
        .y(m => m.y)(marks) ?? '',
    xTicks: wanted.map(sequences => ({
      sequences,
      tokens: sequences * each,
      at: x(sequences),
      measured: marks.some(mark => mark.sequences === sequences),
    })),
    yTicks: known.length === 0 ? [] : verticalTicks(y.ticks(4), y),
  }
}

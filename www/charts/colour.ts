import { interpolateCividis, interpolateViridis } from 'd3-scale-chromatic'
import { ticks } from 'd3-array'
import type { Metric } from '../engine/protocol/similarity'

export type Palette = 'viridis' | 'cividis'
export type Domain = readonly [low: number, high: number]

const INTERPOLATE = { viridis: interpolateViridis, cividis: interpolateCividis }

/** Perceptually uniform, dark for low and light for high; values outside the domain get its ends. */
export function colourOf(value: number, palette: Palette = 'viridis', [low, high]: Domain = [0, 1]): string {
  const t = high > low ? (value - low) / (high - low) : 0
  return INTERPOLATE[palette](Math.min(1, Math.max(0, t)))
}

/**
 * The similarity of maps is drawn on 0 to 1, so that two models compare. The other metrics crowd near 1,
 * so their scale starts at the tenth below the smallest value.
 */
export function domainFor(metric: Metric, matrix: readonly (readonly number[])[]): Domain {
  const smallest = Math.min(1, ...matrix.flat())
  if (metric === 'mi' || !Number.isFinite(smallest)) return [0, 1]
  return [Math.min(0.9, Math.max(-1, Math.floor(smallest * 10) / 10)), 1]
}

export interface LegendStop {
  value: number
  colour: string
  /** 0 to 1 along the legend. */
  at: number
}

export function legend(
  palette: Palette,
  [low, high]: Domain,
  steps = 40,
): { stops: LegendStop[]; labels: LegendStop[] } {
  const stop = (value: number): LegendStop => ({
    value,
    colour: colourOf(value, palette, [low, high]),
    at: (value - low) / (high - low),
  })
  return {
    stops: Array.from({ length: steps }, (_, i) => stop(low + ((high - low) * (i + 0.5)) / steps)),
    labels: ticks(low, high, 5).map(stop),
  }
}

/** Red, green and blue, 0 to 255, of a colour as the palettes give it. */
export function colourChannels(colour: string): number[] {
  const hex = /^#(..)(..)(..)$/.exec(colour)
  return hex ? hex.slice(1).map(part => parseInt(part, 16)) : (colour.match(/\d+/g) ?? []).slice(0, 3).map(Number)
}

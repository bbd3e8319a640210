/** How the stream grows from layer to layer, over all texts: what each layer adds, and how large the stream is then. */
import { area, curveMonotoneX } from 'd3-shape'
import { dot } from './square'
import type { StoredDemo } from './stored'

/** Means over the texts of the stream of the last token, after one layer. Sizes are Euclidean norms. */
export interface Addition {
  /** Size of the stream after the layer. */
  size: number
  /** Size of what the layer adds to the stream. */
  added: number
  /** `added` as a share of the size of the stream that enters the layer. */
  share: number
  /** `1 - cos` of the stream that enters and the stream that leaves: the engine's Block Influence, of last tokens. */
  turned: number
}

export interface Growth {
  /** Size of the stream before the first layer. */
  start: number
  /** One for each layer. */
  layers: Addition[]
}

/** A layer that adds less than this share of the stream adds next to nothing. */
export const LITTLE = 0.02

export function growthOf({ starts, points }: Pick<StoredDemo, 'starts' | 'points'>): Growth {
  const texts = starts.map((_, text) => text)
  const mean = (of: (text: number) => number) => texts.reduce((sum, text) => sum + of(text), 0) / texts.length
  return {
    start: mean(text => norm(starts[text]!)),
    layers: points.map((leaving, layer) => {
      const entering = points[layer - 1] ?? starts
      const added = texts.map(text => norm(leaving[text]!.map((value, c) => value - entering[text]![c]!)))
      return {
        size: mean(text => norm(leaving[text]!)),
        added: mean(text => added[text]!),
        share: mean(text => added[text]! / norm(entering[text]!)),
        turned: mean(text => {
          const [a, b] = [entering[text]!, leaving[text]!]
          return 1 - dot(a, b) / (norm(a) * norm(b))
        }),
      }
    }),
  }
}

/** The layers that add next to nothing. */
export function idleLayers({ layers }: Growth): number[] {
  return layers.flatMap(({ share }, layer) => (share < LITTLE ? [layer] : []))
}

export interface River {
  /** The outline of the stream up to the chosen layer, and of the rest. */
  passed: string
  ahead: string
  /** What each layer brings, from the top edge down into the stream: its middle and its width in pixels. */
  inflows: { x: number; width: number }[]
  /** Where the middle of the stream is. */
  middle: number
}

/** Draws the growth as a river: as wide as the stream is large, with an inflow at each layer as wide as what is added. */
export function riverOf({ start, layers }: Growth, chosen: number, width: number, height: number): River {
  const slot = width / (layers.length + 0.5)
  const x = (layer: number) => (layer + 0.75) * slot
  const most = Math.max(start, ...layers.map(({ size }) => size))
  const widest = Math.max(...layers.map(({ added }) => added))
  const unit = Math.min((0.56 * height) / most, (0.84 * slot) / widest)
  const middle = height - (most * unit) / 2 - 8
  const bank = area<readonly [number, number]>()
    .x(([at]) => at)
    .y0(([, size]) => middle + (size * unit) / 2)
    .y1(([, size]) => middle - (size * unit) / 2)
    .curve(curveMonotoneX)
  // The stream is even between two layers, and changes its size where a layer is.
  const along = (from: number, to: number) =>
    layers.slice(from, to).flatMap(({ size }, i) => {
      const layer = from + i
      return [
        [x(layer) - slot * 0.42, layers[layer - 1]?.size ?? start] as const,
        [x(layer) + slot * 0.42, size] as const,
      ]
    })
  const reached = layers[chosen]!.size
  const turn = [x(chosen) + slot * 0.5, reached] as const
  return {
    passed: bank([[0, start], ...along(0, chosen + 1), turn]) ?? '',
    ahead: bank([turn, ...along(chosen + 1, layers.length), [width, layers.at(-1)!.size]]) ?? '',
    inflows: layers.map(({ added }, layer) => ({ x: x(layer), width: Math.max(1, added * unit) })),
    middle,
  }
}

const norm = (list: Float64Array) => Math.sqrt(dot(list, list))

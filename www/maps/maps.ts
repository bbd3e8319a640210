/** The maps of a run in the form in which the engine makes others, and back. */
import type { LayerMap } from '../engine/protocol/engine'
import type { PointReport, SimilarityReport } from '../engine/protocol/similarity'
import { rowsOf } from '../charts/points'

/** What the sliders set. */
export interface Parameters {
  /** As a multiple of the bandwidth that the run used in each layer. */
  bandwidth: number
  density: number
  time: number
}

export function parametersOf({ options }: Pick<SimilarityReport, 'options'>): Parameters {
  return { bandwidth: 1, density: options.density, time: options.time }
}

export function sameParameters(a: Parameters, b: Parameters): boolean {
  return a.bandwidth === b.bandwidth && a.density === b.density && a.time === b.time
}

/** Layers not yet captured have no rows, and no map. */
export function mapOf(
  layer: number,
  rows: readonly (readonly number[])[],
  eigenvalues: readonly number[] = [],
  epsilon = 0,
): LayerMap {
  return {
    layer,
    epsilon,
    eigenvalues: [...eigenvalues],
    disconnected: (eigenvalues[1] ?? 0) > 0.9,
    dims: rows[0]?.length ?? 0,
    coordinates: Float64Array.from(rows.flat()),
  }
}

export function mapsOf({
  embedding,
  eigenvalues,
  epsilon,
}: Pick<SimilarityReport, 'embedding' | 'eigenvalues' | 'epsilon'>): LayerMap[] {
  return embedding.map((rows, layer) => mapOf(layer, rows, eigenvalues[layer], epsilon[layer]))
}

/** The numbers of the picture, with the keys that a report has for them. */
export interface MapsData {
  layers: number
  /** As a multiple of the run's bandwidth. */
  bandwidth: number
  density: number
  time: number
  epsilon: number[]
  eigenvalues: number[][]
  embedding: number[][][]
  disconnected: number[]
  point_list: PointReport[]
}

export function mapsData(
  maps: readonly LayerMap[],
  { bandwidth, density, time }: Parameters,
  point_list: PointReport[],
): MapsData {
  return {
    layers: maps.length,
    bandwidth,
    density,
    time,
    epsilon: maps.map(map => map.epsilon),
    eigenvalues: maps.map(map => map.eigenvalues),
    embedding: maps.map(rowsOf),
    disconnected: maps.filter(map => map.disconnected).map(map => map.layer),
    point_list,
  }
}

/** A point in words: "Text 12, token 47". */
export function pointName({ sequence, position }: PointReport): string {
  return `Text ${sequence + 1}, ${position >= 0 ? `token ${position + 1}` : 'all tokens'}`
}

/** The text of a point, cut before its own token, where that is known. */
export function inContext({ text, token = '' }: PointReport): { before: string; token: string } {
  const own = token.trim()
  return own !== '' && text.endsWith(own)
    ? { before: text.slice(0, text.length - own.length), token: own }
    : { before: text, token: '' }
}

import type { LayerMap } from '../engine/protocol/engine'

/** Number of points of a map. */
export function pointCount({ coordinates, dims }: LayerMap): number {
  return dims > 0 ? coordinates.length / dims : 0
}

/** One row of coordinates a point. */
export function rowsOf(map: LayerMap): number[][] {
  return Array.from({ length: pointCount(map) }, (_, point) => [
    ...map.coordinates.subarray(point * map.dims, (point + 1) * map.dims),
  ])
}

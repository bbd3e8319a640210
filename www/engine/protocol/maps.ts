/** Maps made again with other parameters. */

/** Which maps are wanted, and with what parameters. */
export interface MapOptions {
  /** In the order in which the maps are to come. */
  layers: number[]
  /** A multiple, above 0, of the bandwidth that the run used in each layer. */
  bandwidth: number
  /** 0 to 1. */
  density: number
  time: number
  /** Exact enough for a picture, and several times faster. */
  sketch: boolean
  /** Leading eigenvalues, if more are wanted than come with a map. Not for sketches. */
  eigenvalues?: number
}

/** The map of a layer, turned onto the run's picture of it. */
export interface LayerMap {
  layer: number
  epsilon: number
  /** lambda_0 = 1 first. */
  eigenvalues: number[]
  /** lambda_1 > 0.9 */
  disconnected: boolean
  dims: number
  /** Point after point, `dims` numbers each. */
  coordinates: Float64Array
}

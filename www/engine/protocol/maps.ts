/** Maps made again with other parameters. Made by `npm run protocol` from src/protocol/; not to be edited. */

/** Layers whose maps are wanted, and options of the maps. */
export type MapOptions = {
  /** Indices of the layers, in the order in which the maps are returned. */
  layers: Array<number>
  /**
   * Bandwidth of each layer, as a multiple > 0 of the bandwidth that the run used for the layer (the
   * median, or the fixed one).
   */
  bandwidth: number
  /** Density exponent, 0 to 1. */
  density: number
  /** Diffusion time, at least 0. */
  time: number
  /** Whether the maps may be sketches, which are exact enough for a picture and several times faster. */
  sketch: boolean
  /**
   * Number of leading eigenvalues of each map, brought into 2 to 64; `null` returns the eigenvalues that
   * come with the map. Sketches ignore this option.
   */
  eigenvalues?: number
}

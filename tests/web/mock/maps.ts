import type { LayerMap } from '../../../www/engine/protocol/engine'
import type { MapOptions } from '../../../www/engine/protocol/maps'
import type { SimilarityReport } from '../../../www/engine/protocol/similarity'

/** Numbers in place of a map: the run's coordinates, which shrink as the bandwidth and the time grow. */
export function mapOf(
  report: SimilarityReport,
  layer: number,
  { bandwidth, density, time, eigenvalues = 5 }: MapOptions,
): LayerMap {
  const rows = report.embedding[layer]!
  const lambda = report.eigenvalues[layer]!
  const power = bandwidth ** 2 * (1 - 0.25 * density)
  const changed = Array.from({ length: eigenvalues }, (_, k) => (lambda[k] ?? lambda.at(-1)! * 0.9 ** k) ** power)
  const dims = rows[0]?.length ?? 0
  const scale = Array.from({ length: dims }, (_, k) => changed[k + 1]! ** time / lambda[k + 1]! ** report.options.time)
  return {
    layer,
    epsilon: report.epsilon[layer]! * bandwidth,
    eigenvalues: changed,
    disconnected: changed[1]! > 0.9,
    dims,
    coordinates: Float64Array.from(rows.flatMap(row => row.map((x, k) => x * scale[k]!))),
  }
}

/** Checks of a report of similarities. */
import type { SimilarityReport } from '../../engine/protocol/similarity'
import { METRIC_NAMES } from '../../words/metrics'
import {
  type Check,
  integer,
  list,
  matrix,
  maybeInfinite,
  MOST,
  number,
  oneOf,
  otherwise,
  record,
  refuse,
  text,
} from './check'
import { calibration, calibrationPoints, count, device, layers, modelReport, textReport, texts } from './facts'

/** Ranges by metric: cosines reach down to -1, everything else to 0. */
export const leastOf = (metric: string) => (metric === 'cosine' ? -1 : 0)

export const similarityReport: Check<SimilarityReport> = (value, at) => {
  const {
    layers: n,
    metric,
    dims,
    points,
  } = record({
    layers,
    metric: oneOf(...METRIC_NAMES),
    dims: integer(1, 64),
    points: record({ rule: calibrationPoints, count: integer(1, MOST.points) }),
  })(value, at)
  const each = orNone(list(number(), { length: n }))
  const layerList = otherwise(list(integer(0, n - 1), { most: n }), [])
  const report = record<SimilarityReport>({
    model: modelReport,
    layers,
    points: () => points,
    metric: () => metric,
    dims: () => dims,
    point_list: otherwise(
      list(
        record({ sequence: count, position: integer(-1), text, token: otherwise<string | undefined>(text, undefined) }),
        { most: MOST.points },
      ),
      [],
    ),
    options: calibration,
    text: textReport,
    epsilon: each,
    eigenvalues: orNone(list(list(number()), { length: n })),
    mutual_information: orNone(matrix(n, -1, 100)),
    similarity: matrix(n, leastOf(metric), 1),
    embedding: orNone(
      list(list(list(number(), { length: dims }), { length: points.count, most: MOST.points }), { length: n }),
    ),
    block_influence: each,
    massive: layerList,
    disconnected: layerList,
    perplexity: maybeInfinite,
    warnings: texts,
    device,
    seconds: number(0),
    peak_memory_bytes: number(0),
  })(value, at)
  if (report.model.layers !== n) refuse([at[0], 'model.layers'], `is ${report.model.layers} and layers ${n}`)
  if (report.point_list.length > 0 && report.point_list.length !== points.count)
    refuse([at[0], 'point_list'], `has ${report.point_list.length} entries for ${points.count} points`)
  return report
}
/** A list of a given length, or an empty one where it is not known. */
function orNone<T>(check: Check<T[]>): Check<T[]> {
  return (value, at) => (value === undefined || (Array.isArray(value) && value.length === 0) ? [] : check(value, at))
}

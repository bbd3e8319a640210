import type { Metric, MetricReport, SimilarityReport } from '../../../www/engine/protocol/similarity'

/** How close to 1 each metric puts what the maps put at 0. */
const FLOOR: Record<Metric, number> = {
  mi: 0,
  cka: 0.4,
  cosine: 0.8,
  angular: 0.7,
  euclidean: 0.2,
  mahalanobis: 0.1,
  tsne: 0.05,
  autoencoder: 0.05,
}

/** The same order of pairs by another metric, but for a dent in the middle, so that a difference shows both signs. */
export function byMetric(
  { similarity, mutual_information }: Pick<SimilarityReport, 'similarity' | 'mutual_information'>,
  metric: Metric,
): MetricReport {
  if (metric === 'mi') return { metric, similarity, mutual_information }
  const floor = FLOOR[metric]
  const n = similarity.length
  const value = (s: number, l: number, m: number) =>
    l === m
      ? 1
      : Number(
          (
            floor +
            (1 - floor) * s -
            (l > n / 3 && l < n / 2 && m > n / 3 && m < n / 2 ? 0.12 + floor * 0.1 : 0)
          ).toFixed(4),
        )
  return {
    metric,
    mutual_information: [],
    similarity: similarity.map((row, l) => row.map((s, m) => value(s, l, m))),
  }
}

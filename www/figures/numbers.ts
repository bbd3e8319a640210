/** The numbers of a picture as the page shows them in a table: pure functions. */
import { tokenName } from '../charts/pointcolours'
import type { LayerMap } from '../engine/protocol/engine'
import type { PointReport } from '../engine/protocol/similarity'
import { rowsOf } from '../charts/points'

export interface Numbers {
  head: readonly (string | number)[]
  /** A line each, what it is about first. Made when they are asked for: there are as many as layers squared, or points. */
  rows: () => (string | number)[][]
}

/** A line a layer. */
export function matrixNumbers(matrix: readonly (readonly number[])[]): Numbers {
  return {
    head: ['layer', ...matrix.keys()],
    rows: () => matrix.map((row, layer) => [layer, ...row.map(value => value.toFixed(3))]),
  }
}

/** A line a point; its token where the run told any. */
export function mapNumbers(map: LayerMap, points: readonly PointReport[]): Numbers {
  const hasTokens = points.some(point => point.token)
  return {
    head: [
      'text',
      'position',
      ...(hasTokens ? ['token'] : []),
      ...Array.from({ length: map.dims }, (_, k) => `coordinate ${k + 1}`),
    ],
    rows: () =>
      rowsOf(map).map((row, i) => {
        const { sequence = i, position = -1, token } = points[i] ?? {}
        return [
          sequence + 1,
          position >= 0 ? position + 1 : 'all',
          ...(hasTokens ? [tokenName(token)] : []),
          ...row.map(value => value.toFixed(4)),
        ]
      }),
  }
}

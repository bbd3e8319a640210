import type { ScaleKind } from '../../charts/scale'
import type { View } from '../../charts/view'
import type { Metric } from '../../engine/protocol/similarity'
import type { OtherRun } from './runs'
import type { Rows } from './words'

/** What stands beside the present similarities, or is taken from them. */
export type Against = { kind: 'metric'; metric: Metric } | { kind: 'run'; id: string }

/** How the matrix is looked at; nothing here changes a result. */
export class MatrixState {
  scale = $state<ScaleKind>('linear')
  against = $state.raw<Against | null>(null)
  layout = $state<'difference' | 'beside'>('difference')
  runs = $state.raw<OtherRun[]>([])
  /** By other metrics, of the maps with this key. */
  others = $state.raw<{ key: string; by: Partial<Record<Metric, Rows>> }>({ key: '', by: {} })
  /** The part in the picture; null is the whole. */
  view = $state.raw<View | null>(null)
}

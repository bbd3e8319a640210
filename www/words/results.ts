/** What the result of a plan is called, and how large it is. */
import type { PlanReport } from '../engine/protocol/plan'
import { sizeIn, type StoredAs } from './types'

/** The name of the files of a result, without their ending, from the name of its original. */
export function resultName(original: string, layers: number): string {
  const name =
    original
      .replace(/\.gguf$/i, '')
      .replace(/[^\w.-]+/g, '-')
      .replace(/^[.-]+/, '') || 'model'
  return `${name}-laminated-${layers}L`
}

/** Bytes of all tensors. Without the engine's word on another type, as it was planned; packed, at most as much as in the model's own types. */
export function bytesStoredAs({ bytes, sizes = [], output }: PlanReport, { dtype, container, pack }: StoredAs): number {
  const planned = output.dtype === dtype && output.container === container && output.pack === pack
  return planned ? bytes.after : (sizeIn(sizes, dtype, container)?.bytes ?? bytes.after)
}

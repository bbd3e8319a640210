import type { ModelReport } from '../../../www/engine/protocol/model'
import type { NumberType } from '../../../www/engine/protocol/output'
import type { PlanReport } from '../../../www/engine/protocol/plan'
import type { SizeRange, SizeReport } from '../../../www/engine/protocol/sizing'
import { fail } from './tell'

export function rangeOf({ bytes }: ModelReport): SizeRange {
  return { least: 0.3 * bytes, most: 1.02 * bytes }
}

/** Three models of a size, of which `make` makes the best. */
export async function bestOf(
  model: ModelReport,
  size: number,
  make: (remove: number, dtype: NumberType) => Promise<PlanReport>,
): Promise<SizeReport> {
  const { bytes, layers } = model
  const { least } = rangeOf(model)
  if (size < least)
    fail(
      'usage',
      `${(size / 1e6).toFixed(1)} MB cannot be reached: the smallest that this model becomes is ${(least / 1e6).toFixed(1)} MB`,
    )
  const removed = Math.max(1, Math.min(layers - 1, Math.round((layers * (1 - size / bytes)) / 2)))
  const dtype = 'parts:head=q6_k+query=q4_k+value=q6_k/q5_k/q5_k+up=q4_k'
  const plan = await make(removed, dtype)
  const kl = plan.merged.kl ?? 0
  const models: SizeReport['search']['models'] = [
    { removed, layers: layers - removed, dtype, bytes: 0.99 * size, expected_kl: 0.9 * kl, quality: plan.merged },
    {
      removed: 0,
      layers,
      dtype: 'q4_0',
      bytes: 0.95 * size,
      expected_kl: null,
      quality: { ...plan.merged, kl: kl + 0.05 },
    },
    {
      removed: removed + 1,
      layers: layers - removed - 1,
      dtype: 'keep',
      bytes: 0.97 * size,
      expected_kl: 0.2,
      quality: { ...plan.merged, kl: kl + 0.1 },
    },
  ]
  const sentence = `The best is ${layers - removed} of ${layers} layers in types chosen part by part.`
  return {
    search: { size, bytes_beside_tensors: 20_000, parts: [], removals: [{ removed, kl: 0.01 }], models, sentence },
    plan,
  }
}

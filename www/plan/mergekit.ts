/** The same plan for mergekit, where its operator is a weighted sum of layers. */
import type { Operator } from '../engine/protocol/method'
import type { ModelReport } from '../engine/protocol/model'
import type { MergePlan } from '../engine/protocol/plan'

const SUMS: readonly Operator[] = ['average', 'drop', 'laco']
const TYPES: Record<string, string> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' }

/** Why mergekit cannot do it; empty where it can. */
export function whyNoMergekit(
  { operator, kept_experts }: Pick<MergePlan, 'operator' | 'kept_experts'>,
  { container }: Pick<ModelReport, 'container'>,
): string {
  if (!SUMS.includes(operator))
    return 'mergekit knows weighted sums of layers only; this operator computes new weights.'
  if (kept_experts?.length) return 'mergekit cannot remove experts.'
  return container === 'gguf' ? 'mergekit reads Hugging Face folders, and this model is a GGUF file.' : ''
}

/**
 * A configuration for `mergekit-yaml` (0.1): method `linear`, one slice for each final layer.
 *
 * mergekit keeps the tensors of a slice by the model that they come from, so that two layers of one model in one
 * slice need two names for it: a local folder is also `./folder`, `././folder` and so on.
 */
export function mergekitYaml(
  { groups, weights }: Pick<MergePlan, 'groups' | 'weights'>,
  { name, dtype }: Pick<ModelReport, 'name' | 'dtype'>,
): string {
  const folder = name.replace(/[^\w.-]+/g, '-') || 'model'
  const source = (layer: number, weight: number, place: number) => [
    `      - model: ${'./'.repeat(place + 1)}${folder}`,
    `        layer_range: [${layer}, ${layer + 1}]`,
    `        parameters: {weight: ${Number(weight.toPrecision(10))}}`,
  ]
  const slices = groups.flatMap((group, g) => {
    const parts = group.map((layer, i) => [layer, weights[g]![i]!] as const).filter(([, weight]) => weight !== 0)
    return ['  - sources:', ...parts.flatMap(([layer, weight], place) => source(layer, weight, place))]
  })
  return (
    [
      `# mergekit-yaml mergekit.yaml ./${folder}-merged`,
      `# Run it beside the folder ${folder}; ./ and ././ are names of the same folder, one for each layer of a slice.`,
      'merge_method: linear',
      'parameters: {normalize: false}',
      `dtype: ${TYPES[dtype] ?? 'float16'}`,
      'slices:',
      ...slices,
    ].join('\n') + '\n'
  )
}

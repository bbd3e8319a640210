import type { ModelReport } from '../../../www/engine/protocol/model'
import type { WriteOptions } from '../../../www/engine/protocol/output'
import type { MergePlan } from '../../../www/engine/protocol/plan'

/** Files as large as those of the engine, with names and bytes of their own. */
export function filesOf(model: ModelReport, plan: MergePlan, options: WriteOptions): [string, Uint8Array][] {
  const layers = plan.groups.length
  const shard = new Uint8Array(model.bytes - (model.layers - layers) * model.bytes_per_layer).fill(7)
  const text = (value: unknown) => new TextEncoder().encode(JSON.stringify(value, null, 2))
  return options.container === 'gguf' ? [[`${options.name ?? 'model'}.gguf`, shard]] : [
    ['config.json', text({ model_type: model.architecture, num_hidden_layers: layers })],
    ['model.safetensors', shard],
    ['tokenizer.json', text({ model: 'mock' })],
    ['recipe.json', text({ plan, options })],
    ['README.md', text('model card')],
  ]
}

import type { Observe } from '../../../www/engine/protocol/engine'
import type { OutputFolder } from '../../../www/engine/protocol/files'
import type { ModelReport } from '../../../www/engine/protocol/model'
import type { WriteOptions } from '../../../www/engine/protocol/output'
import type { MergePlan } from '../../../www/engine/protocol/plan'
import { fail, tell, wait } from './tell'

/** Files as large as those of the engine, with names and bytes of their own; of a GGUF file that was opened the same, so that others can read it. */
export function filesOf(
  model: ModelReport,
  plan: MergePlan,
  options: WriteOptions,
  opened: Uint8Array | null,
): [string, Uint8Array][] {
  if (opened && options.container === 'gguf') return [[`${options.name ?? 'model'}.gguf`, opened]]
  const layers = plan.groups.length
  const shard = new Uint8Array(model.bytes - (model.layers - layers) * model.bytes_per_layer).fill(7)
  const text = (value: unknown) => new TextEncoder().encode(JSON.stringify(value, null, 2))
  return options.container === 'gguf'
    ? [[`${options.name ?? 'model'}.gguf`, shard]]
    : [
        ['config.json', text({ model_type: model.architecture, num_hidden_layers: layers })],
        ['model.safetensors', shard],
        ['tokenizer.json', text({ model: 'mock' })],
        ['recipe.json', text({ plan, options })],
        ['README.md', text('model card')],
      ]
}

/** Writes files slowly enough that progress and cancel can be seen. */
export async function writeFiles(
  files: readonly [string, Uint8Array][],
  folder: OutputFolder,
  observe: Observe,
): Promise<void> {
  try {
    let done = 0
    const total = files.reduce((sum, [, bytes]) => sum + bytes.length, 0)
    for (const [name, bytes] of files) {
      await folder.create(name)
      for (let at = 0; at < bytes.length; at += 65536) {
        const piece = bytes.slice(at, at + 65536)
        await folder.write(piece)
        done += piece.length
        await wait(8)
        await tell(observe, { progress: { stage: 'write', done, total, unit: 'bytes', detail: name } })
      }
      await folder.close()
      if ((await folder.size(name)) !== bytes.length) fail('source', `${name} was not written whole.`)
    }
    await folder.commit()
  } catch (error) {
    await folder.abort()
    throw error
  }
}

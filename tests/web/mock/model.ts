import type { ByteSource } from '../../../www/engine/protocol/files'
import type { ModelReport } from '../../../www/engine/protocol/model'
import { fail } from './tell'

/** A model report from `config.json`, and the checks whose sentences the page's tests look for. */
export async function modelFrom(files: ByteSource[], name: string | undefined): Promise<ModelReport> {
  const configFile = files.find(file => file.name === 'config.json')
  const gguf = files.filter(file => file.name.endsWith('.gguf'))
  if (!configFile && gguf[0]) return modelFromGguf(gguf, name)
  if (!configFile) fail('format', 'There is no config.json among the files. Open the folder of a Hugging Face model.')
  const config = await json(configFile)
  if (!['llama', 'mistral', 'jamba'].includes(String(config.model_type)))
    fail(
      'unsupported',
      `config.json: the architecture "${config.model_type}" is not supported; llama, mistral and jamba are.`,
    )
  const weights = files.find(file => file.name.endsWith('.safetensors'))
  if (!weights) fail('source', 'model.safetensors is missing. Open the folder that holds all files of the model.')
  const header = new DataView((await weights.read(0, 8)).slice().buffer).getBigUint64(0, true)
  if (Number(header) + 8 > weights.size)
    fail(
      'format',
      `${weights.name}: the header claims ${header} bytes and the file has ${weights.size}. It is cut short; get it again.`,
    )
  const number = (key: string) => Number(config[key])
  const hidden = number('hidden_size')
  const perLayer =
    2 * hidden * hidden + 2 * hidden * (hidden / 2) + 3 * hidden * number('intermediate_size') + 2 * hidden
  const parameters = perLayer * number('num_hidden_layers') + hidden * (number('vocab_size') + 1)
  return {
    name: name ?? 'model',
    architecture: String(config.model_type),
    layers: number('num_hidden_layers'),
    hidden_size: hidden,
    intermediate_size: number('intermediate_size'),
    heads: number('num_attention_heads'),
    kv_heads: number('num_key_value_heads'),
    head_dim: config.head_dim ? number('head_dim') : hidden / number('num_attention_heads'),
    vocab_size: number('vocab_size'),
    context: number('max_position_embeddings'),
    parameters,
    parameters_per_layer: perLayer,
    bytes: parameters * 4,
    bytes_per_layer: perLayer * 4,
    dtype: 'F32',
    dtypes: ['F32'],
    tied_head: true,
    sliding_window: null,
    container: 'safetensors',
    files: files.map(file => file.name),
    ...(config.model_type === 'jamba' ? kindsOf(config) : {}),
  }
}

/** Attention and experts in some layers, by periods, as in Jamba. */
function kindsOf(config: Record<string, unknown>): Pick<ModelReport, 'kinds' | 'experts'> {
  const number = (key: string) => Number(config[key])
  const every = (layer: number, what: string) =>
    layer % number(`${what}_layer_period`) === number(`${what}_layer_offset`)
  return {
    kinds: Array.from(
      { length: number('num_hidden_layers') },
      (_, layer) => `${every(layer, 'attn') ? 'attention' : 'Mamba'}${every(layer, 'expert') ? ' and experts' : ''}`,
    ),
    experts: [number('num_experts'), number('num_experts_per_tok')],
  }
}

/** Nothing of it is read but what tells a GGUF file: the numbers are those of a small model. */
async function modelFromGguf(files: ByteSource[], name: string | undefined): Promise<ModelReport> {
  for (const file of files) {
    const magic = new TextDecoder().decode(await file.read(0, 4))
    if (magic !== 'GGUF') fail('format', `${file.name} is not a GGUF file: it begins with "${magic}".`)
  }
  const perLayer = 46_000
  return {
    name: name ?? files[0]!.name,
    architecture: 'llama',
    layers: 5,
    hidden_size: 64,
    intermediate_size: 172,
    heads: 8,
    kv_heads: 4,
    head_dim: 8,
    vocab_size: 512,
    context: 512,
    parameters: 5 * perLayer + 32_832,
    parameters_per_layer: perLayer,
    bytes: 4 * (5 * perLayer + 32_832),
    bytes_per_layer: 4 * perLayer,
    dtype: 'F32',
    dtypes: ['F32'],
    tied_head: true,
    sliding_window: null,
    container: 'gguf',
    files: files.map(file => file.name),
  }
}

async function json(file: ByteSource): Promise<Record<string, unknown>> {
  try {
    return JSON.parse(new TextDecoder().decode(await file.read(0, file.size)))
  } catch {
    return fail('format', `${file.name} is not valid JSON. Get the file again.`)
  }
}

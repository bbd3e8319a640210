import { closeSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs'

/** Types of a value in GGUF metadata. */
const [U32, I32, F32, STRING, ARRAY] = [4, 5, 6, 8, 9]

/** Types of a tensor, and what 256 of its numbers take. */
const TYPES = { F32: [0, 1024], Q4_K: [12, 144], Q6_K: [14, 210] } as const

type TensorType = keyof typeof TYPES

const u32 = (n: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(n)
  return bytes
}
const u64 = (n: number) => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(n))
  return bytes
}
const f32 = (n: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeFloatLE(n)
  return bytes
}
const text = (words: string) => Buffer.concat([u64(Buffer.byteLength(words)), Buffer.from(words)])
const entry = (key: string, type: number, value: Buffer) => Buffer.concat([text(key), u32(type), value])
const list = (key: string, type: number, values: Buffer[]) =>
  entry(key, ARRAY, Buffer.concat([u32(type), u64(values.length), ...values]))

/** Numbers of a model of the kind that llama.cpp calls llama, by their names there. */
type Sizes = Record<string, number>
type Tensors = [name: string, dims: number[], type: TensorType][]

const TOKENS = [
  '<unk>',
  '<s>',
  '</s>',
  ...Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`),
]

/** The header of a model with a vocabulary of bytes, and the bytes that its tensors take. */
function headerOf(sizes: Sizes, tensors: Tensors): { header: Buffer; bytes: number } {
  const metadata = [
    entry('general.architecture', STRING, text('llama')),
    ...Object.entries(sizes).map(([name, n]) => entry(`llama.${name}`, U32, u32(n))),
    entry('llama.rope.freq_base', F32, f32(1e6)),
    entry('llama.attention.layer_norm_rms_epsilon', F32, f32(1e-5)),
    entry('tokenizer.ggml.model', STRING, text('llama')),
    list('tokenizer.ggml.tokens', STRING, TOKENS.map(text)),
    list(
      'tokenizer.ggml.scores',
      F32,
      TOKENS.map(() => f32(0)),
    ),
    list(
      'tokenizer.ggml.token_type',
      I32,
      TOKENS.map((_, id) => u32(id === 0 ? 2 : id < 3 ? 3 : 6)),
    ),
  ]
  let bytes = 0
  const infos = tensors.map(([name, dims, type]) => {
    const [number, of256] = TYPES[type]
    const info = Buffer.concat([text(`${name}.weight`), u32(dims.length), ...dims.map(u64), u32(number), u64(bytes)])
    bytes += Math.ceil(((dims.reduce((a, b) => a * b, 1) / 256) * of256) / 32) * 32
    return info
  })
  const header = Buffer.concat([
    Buffer.from('GGUF'),
    u32(3),
    u64(tensors.length),
    u64(metadata.length),
    ...metadata,
    ...infos,
  ])
  return { header: Buffer.concat([header, Buffer.alloc((32 - (header.length % 32)) % 32)]), bytes }
}

/**
 * Writes a GGUF file of the shapes of Mixtral-8x7B in Q4_K_M, but for a vocabulary of bytes, which is all hole behind its
 * header: on a disk that knows holes it takes a few kilobytes. Returns its size in bytes.
 */
export function writeHollowMixtral(path: string): number {
  const [hidden, inner, layers, experts, keys] = [4096, 14_336, 32, 8, 1024]
  const sizes = {
    block_count: layers,
    context_length: 32_768,
    embedding_length: hidden,
    feed_forward_length: inner,
    'attention.head_count': 32,
    'attention.head_count_kv': 8,
    'rope.dimension_count': 128,
    expert_count: experts,
    expert_used_count: 2,
  }
  const tensors: Tensors = [
    ['token_embd', [hidden, TOKENS.length], 'Q4_K'],
    ['output', [hidden, TOKENS.length], 'Q6_K'],
    ['output_norm', [hidden], 'F32'],
  ]
  for (let layer = 0; layer < layers; layer++) {
    const of = (name: string, dims: number[], type: TensorType = 'Q4_K') =>
      tensors.push([`blk.${layer}.${name}`, dims, type])
    of('attn_norm', [hidden], 'F32')
    of('ffn_norm', [hidden], 'F32')
    of('attn_q', [hidden, hidden])
    of('attn_k', [hidden, keys])
    of('attn_v', [hidden, keys], 'Q6_K')
    of('attn_output', [hidden, hidden])
    of('ffn_gate_inp', [hidden, experts], 'F32')
    of('ffn_gate_exps', [hidden, inner, experts])
    of('ffn_up_exps', [hidden, inner, experts])
    of('ffn_down_exps', [inner, hidden, experts], layer % 2 ? 'Q4_K' : 'Q6_K')
  }
  const { header, bytes } = headerOf(sizes, tensors)
  const file = openSync(path, 'w')
  writeSync(file, header)
  closeSync(file)
  truncateSync(path, header.length + bytes)
  return header.length + bytes
}

/** Writes a GGUF file of four layers in F32, of any numbers, that are wide enough for products to be shared among threads. */
export function writeWideLlama(path: string): void {
  const [hidden, inner, layers] = [512, 1024, 4]
  const sizes = {
    block_count: layers,
    context_length: 2048,
    embedding_length: hidden,
    feed_forward_length: inner,
    'attention.head_count': 8,
    'attention.head_count_kv': 8,
    'rope.dimension_count': 64,
  }
  const tensors: Tensors = [
    ['token_embd', [hidden, TOKENS.length], 'F32'],
    ['output', [hidden, TOKENS.length], 'F32'],
    ['output_norm', [hidden], 'F32'],
  ]
  for (let layer = 0; layer < layers; layer++) {
    const of = (name: string, ...dims: number[]) => tensors.push([`blk.${layer}.${name}`, dims, 'F32'])
    for (const name of ['attn_norm', 'ffn_norm']) of(name, hidden)
    for (const name of ['attn_q', 'attn_k', 'attn_v', 'attn_output']) of(name, hidden, hidden)
    for (const name of ['ffn_gate', 'ffn_up']) of(name, hidden, inner)
    of('ffn_down', inner, hidden)
  }
  const { header, bytes } = headerOf(sizes, tensors)
  let state = 1
  const numbers = Float32Array.from(
    { length: bytes / 4 },
    () => ((state = (state * 16_807) % 2_147_483_647) / 2_147_483_647 - 0.5) / 8,
  )
  writeFileSync(path, Buffer.concat([header, Buffer.from(numbers.buffer)]))
}

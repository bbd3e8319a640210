import type { Container, ModelReport } from './engine/protocol/model'
import type { BlockType, NumberType } from './engine/protocol/output'

/** What the quantised types cost: bits for each weight, with the scales of its block. */
const BITS: Record<BlockType, number> = {
  q8_0: 8.5, q6_k: 6.5625, q5_k: 5.5, q5_1: 6, q5_0: 5.5, q4_k: 4.5, iq4_nl: 4.5, iq4_xs: 4.25, q4_1: 5, q4_0: 4.5, mxfp4: 4.25,
  q3_k: 3.4375, q2_k: 2.625,
}
const FLOATS: [NumberType, string][] = [['f32', 'F32'], ['f16', 'F16'], ['bf16', 'BF16']]
const BLOCKS = (Object.keys(BITS) as BlockType[]).map(type => [type, `${type.toUpperCase()}, ${figure(BITS[type])} bits`] as [NumberType, string])

/** The types that can be chosen, with what to call them. */
export function typesFor(container: Container): [NumberType, string][] {
  return [['keep', 'as it is'], ...FLOATS, ...(container === 'gguf' ? BLOCKS : [])]
}

export function isBlock(type: NumberType): type is BlockType {
  return type in BITS
}

/** What to call a type within a sentence. */
export function typeName(type: NumberType): string {
  return type === 'keep' ? 'the model\'s own types' : type.toUpperCase()
}

/**
 * About how many bytes a model of so many parameters and layers takes; null where all keep their types.
 * Safetensors know no blocks, a row that is no whole number of blocks becomes F16, and the output matrix
 * gets no fewer bits than Q6_K has.
 */
export function bytesIn(type: NumberType, container: Container, model: ModelReport, parameters: number, layers: number): number | null {
  if (type === 'keep') {
    const blocksEnd = container === 'safetensors' && model.container === 'gguf' && !/^B?F\d/.test(model.dtype)
    // What GPTQ and its likes packed becomes floats in a GGUF file.
    const unpacks = container === 'gguf' && model.dtypes.some(name => /^int\d/.test(name))
    return blocksEnd || unpacks ? parameters * 2 : null
  }
  if (!isBlock(type)) return parameters * (type === 'f32' ? 4 : 2)
  const bits = (row: number, block: BlockType = type) => (row % blockOf(block) === 0 ? BITS[block] : 16)
  const { hidden_size, intermediate_size, vocab_size } = model
  const head = vocab_size * hidden_size
  const inner = layers * hidden_size * intermediate_size
  const headBits = BITS[type] < BITS.q6_k ? bits(hidden_size, 'q6_k') : bits(hidden_size)
  return (head * headBits + inner * bits(intermediate_size) + Math.max(0, parameters - head - inner) * bits(hidden_size)) / 8
}

/** What a type cannot do for this model, in words; null where every row is a whole number of blocks. */
export function misfit(type: NumberType, { hidden_size, intermediate_size }: ModelReport): string | null {
  if (!isBlock(type)) return null
  const rows = [...new Set([hidden_size, intermediate_size])].filter(row => row % blockOf(type) !== 0)
  if (rows.length === 0) return null
  return `This model has rows of ${rows.join(' and ')} weights, which are no whole number of ${typeName(type)}'s blocks of ${blockOf(type)}: they become F16.`
}

function blockOf(type: BlockType): number {
  return type.endsWith('_k') || type === 'iq4_xs' ? 256 : 32
}

function figure(bits: number): string {
  return String(Math.round(bits * 10) / 10)
}

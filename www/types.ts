import type { Container } from './engine/protocol/model'
import type { NumberType, QuantisedType } from './engine/protocol/output'
import type { StoredSize } from './engine/protocol/plan'
import { bytes } from './format'

const FLOATS: readonly NumberType[] = ['f32', 'f16', 'bf16']

/** From the largest files to the smallest, about. */
export const QUANTISED: readonly QuantisedType[] = [
  'q8_0', 'q6_k', 'q5_k_m', 'q5_k_s', 'q5_k', 'q5_1', 'q5_0', 'q4_k_m', 'q4_k_s', 'q4_k', 'iq4_nl', 'iq4_xs', 'q4_1', 'q4_0', 'mxfp4', 'q3_k_l', 'q3_k_m', 'q3_k_s',
  'q3_k', 'q2_k',
]

/** The types that can be chosen, with what to call them: the name, and the size of the result where that is known. */
export function typesFor(container: Container, sizes: readonly StoredSize[] = []): [NumberType, string][] {
  return (['keep', ...FLOATS, ...(container === 'gguf' ? QUANTISED : [])] as NumberType[]).map(type => {
    const size = sizeIn(sizes, type, container)
    const name = type === 'keep' ? 'as it is' : type.toUpperCase()
    return [type, size && type !== 'keep' ? `${name}, ${bytes(size.bytes)}` : name]
  })
}

export function isQuantised(type: NumberType): type is QuantisedType {
  return (QUANTISED as readonly string[]).includes(type)
}

/** What to call a type within a sentence. */
export function typeName(type: NumberType): string {
  return type === 'keep' ? 'the model\'s own types' : type.toUpperCase()
}

/** The size of the result in this type, where the engine has told. */
export function sizeIn(sizes: readonly StoredSize[], type: NumberType, container: Container): StoredSize | null {
  return sizes.find(size => size.dtype === type && size.container === container) ?? null
}

/** What the matrices of the result become, in words; null where nothing is to be said. */
export function becomes(sizes: readonly StoredSize[], type: NumberType, container: Container): string | null {
  const { elements = [] } = isQuantised(type) ? (sizeIn(sizes, type, container) ?? {}) : {}
  if (elements.length === 0) return null
  const most = type.replace(/_[sml]$/, '').toUpperCase()
  const all = `The matrices become ${listed(elements)}.`
  const misfit = `Rows of this model are no whole number of ${most}'s blocks of ${most.endsWith('_K') || most === 'IQ4_XS' ? 256 : 32} weights, so that some matrices take another type. `
  return elements.includes(most) && !elements.includes('F16') ? (elements.length > 1 ? all : null) : misfit + all
}

function listed(words: readonly string[]): string {
  return words.length < 2 ? (words[0] ?? '') : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`
}

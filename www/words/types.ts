import type { Container, ModelReport } from '../engine/protocol/model'
import type { ImatrixFile } from '../engine/protocol/imatrix'
import type { NumberType, PackedType, PartTypes, QuantisedType, WriteOptions } from '../engine/protocol/output'
import type { StoredSize } from '../engine/protocol/plan'
import { bytes, listed } from '../ui/format'

/** How a model is stored, with the kind of file said, which the engine would else take from the original. */
export type StoredAs = WriteOptions & { container: Container }

const FLOATS: readonly NumberType[] = ['f32', 'f16', 'bf16']

/** From the largest files to the smallest, about. */
export const QUANTISED: readonly QuantisedType[] = [
  'q8_0',
  'q6_k',
  'q5_k_m',
  'q5_k_s',
  'q5_k',
  'q5_1',
  'q5_0',
  'q4_k_m',
  'q4_k_s',
  'q4_k',
  'iq4_nl',
  'iq4_xs',
  'q4_1',
  'q4_0',
  'mxfp4',
  'q3_k_l',
  'q3_k_m',
  'q3_k_s',
  'q3_k',
  'q2_k',
]

/** All that a matrix can be stored in, the model's own first. */
export const TYPES: readonly NumberType[] = ['keep', ...FLOATS, ...QUANTISED]

/** Those in which the projections of a Hugging Face folder are packed. */
const PACKED: readonly PackedType[] = ['int4', 'int4-g128', 'int4-g64', 'int4-g32']

/** What the page calls a number type: one of all matrices, or one in which projections are packed. */
export type TypeChoice = NumberType | PackedType

export function typeOf({ dtype, pack }: Pick<WriteOptions, 'dtype' | 'pack'>): TypeChoice {
  return pack ?? dtype
}

/** Options with another type; what is packed keeps the types of all else. */
export function chooseType(options: WriteOptions, type: TypeChoice): void {
  delete options.pack
  if (isPacked(type)) Object.assign(options, { dtype: 'keep', pack: type })
  else options.dtype = type
}

export function isPacked(type: TypeChoice): type is PackedType {
  return (PACKED as readonly string[]).includes(type)
}

/** What of the options decides by which importances values are encoded, for the keys of results; nothing where they are collected. */
export function weighingOf({ importances }: Pick<WriteOptions, 'importances'>, imatrix: ImatrixFile | null): string[] {
  return importances === false ? ['without importances'] : imatrix ? [imatrix.hash] : []
}

/** How the models of a comparison are stored, but for their types. */
export function storedAs({
  writeOptions: { importances = true },
}: {
  writeOptions: WriteOptions
}): Partial<WriteOptions> {
  return { importances }
}

/** How a model is stored whose types are searched for: in a GGUF file. */
export function storedForSize(options: WriteOptions): WriteOptions {
  const { pack: _, rounding: __, ...rest } = options
  return { ...rest, container: 'gguf', dtype: 'keep' }
}

/** Options that store a model as another that was found for a size. */
export function storeAs(options: WriteOptions, { dtype, container }: Pick<WriteOptions, 'dtype' | 'container'>): void {
  chooseType(options, dtype)
  options.container = container
}

/** Whether each part of a model has a type of its own. */
export function isByPart(type: TypeChoice): type is PartTypes {
  return type.startsWith('parts:')
}

/** The types that can be chosen, with what to call them: the name, and the size of the result where that is known. */
export function typesFor(
  container: Container,
  sizes: readonly StoredSize[] = [],
  own: TypeChoice = 'keep',
): [TypeChoice, string][] {
  const byPart: [TypeChoice, string][] = isByPart(own) && container === 'gguf' ? [[own, 'part by part']] : []
  const all = (
    [
      ...TYPES.filter(type => container === 'gguf' || !isQuantised(type)),
      ...(container === 'gguf' ? [] : PACKED),
    ] as TypeChoice[]
  ).map(type => {
    const size = isPacked(type) ? null : sizeIn(sizes, type, container)
    const name = type === 'keep' ? 'as it is' : type.toUpperCase()
    return [type, size && type !== 'keep' ? `${name}, ${bytes(size.bytes)}` : name] satisfies [TypeChoice, string]
  })
  return [...byPart, ...all]
}

/** Whether a type is one of GGUF files alone. */
export function isQuantised(type: TypeChoice): type is QuantisedType | PartTypes {
  return isByPart(type) || (QUANTISED as readonly string[]).includes(type)
}

/** What to call a type within a sentence. */
export function typeName(type: TypeChoice): string {
  return type === 'keep' ? "the model's own types" : isByPart(type) ? 'types chosen part by part' : type.toUpperCase()
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

/** Bits of a weight, about: those of llama.cpp's table for a model of 8 billion parameters. */
const BITS: Partial<Record<NumberType, number>> = { f16: 16, q8_0: 8.5, q4_k_m: 4.9, q3_k_m: 4, q2_k: 3.2 }

/** Types that are worth a look beside the model's own: few, from the largest to the smallest, each smaller than the model is. */
export function suggestedTypes({ bytes, parameters }: Pick<ModelReport, 'bytes' | 'parameters'>): NumberType[] {
  const own = parameters > 0 ? (8 * bytes) / parameters : 16
  return (Object.keys(BITS) as NumberType[]).filter(type => BITS[type]! < 0.9 * own)
}

import { expect, test } from 'vitest'
import type { StoredSize } from '../../www/engine/protocol/plan'
import type { WriteOptions } from '../../www/engine/protocol/output'
import {
  becomes,
  chooseType,
  isPacked,
  isQuantised,
  QUANTISED,
  sizeIn,
  storeAs,
  storedForSize,
  suggestedTypes,
  typeName,
  typeOf,
  typesFor,
  weighingOf,
} from '../../www/words/types'

const sizes: StoredSize[] = [
  { container: 'safetensors', dtype: 'f16', bytes: 2_000_000, elements: ['F16'] },
  { container: 'gguf', dtype: 'q8_0', bytes: 1_062_500, elements: ['Q8_0'] },
  { container: 'gguf', dtype: 'q4_k_m', bytes: 606_000, elements: ['Q4_K', 'Q6_K'] },
  { container: 'gguf', dtype: 'q3_k_s', bytes: 562_500, elements: ['Q4_0', 'Q8_0'] },
  { container: 'gguf', dtype: 'q4_0', bytes: 700_000, elements: ['Q4_0', 'F16'] },
]

test('quantised types are offered for GGUF alone, with the size of the result where that is known', () => {
  const words = (container: 'gguf' | 'safetensors') => typesFor(container, sizes).map(([, word]) => word)
  expect(words('safetensors')).toEqual([
    'as it is',
    'F32',
    'F16, 2.00\u00a0MB',
    'BF16',
    'INT4',
    'INT4-G128',
    'INT4-G64',
    'INT4-G32',
  ])
  expect(words('gguf').slice(0, 8)).toEqual([
    'as it is',
    'F32',
    'F16',
    'BF16',
    'Q8_0, 1.06\u00a0MB',
    'Q6_K',
    'Q5_K_M',
    'Q5_K_S',
  ])
  expect(typesFor('gguf')).toHaveLength(4 + QUANTISED.length)
  expect([typeName('q4_k_m'), typeName('keep')]).toEqual(['Q4_K_M', "the model's own types"])
  expect([isQuantised('q3_k_l'), isQuantised('bf16'), isQuantised('keep')]).toEqual([true, false, false])
})

test('sizes are those of the kind of file and the type', () => {
  expect(sizeIn(sizes, 'q8_0', 'gguf')?.bytes).toBe(1_062_500)
  expect(sizeIn(sizes, 'f16', 'gguf')).toBeNull()
  expect(sizeIn([], 'q8_0', 'gguf')).toBeNull()
})

test('what the matrices become is said where it is not what the name says', () => {
  expect(becomes(sizes, 'q8_0', 'gguf')).toBeNull()
  expect(becomes(sizes, 'f16', 'safetensors')).toBeNull()
  expect(becomes(sizes, 'q6_k', 'gguf')).toBeNull()
  expect(becomes(sizes, 'q4_k_m', 'gguf')).toBe('The matrices become Q4_K and Q6_K.')
  expect(becomes(sizes, 'q3_k_s', 'gguf')).toBe(
    "Rows of this model are no whole number of Q3_K's blocks of 256 weights, so that some matrices take another type. The matrices become Q4_0 and Q8_0.",
  )
  expect(becomes(sizes, 'q4_0', 'gguf')).toContain("Q4_0's blocks of 32 weights")
})

test('projections of a folder can be packed, all else as it is', () => {
  const options: WriteOptions = { dtype: 'f16', max_shard_bytes: 1, container: 'safetensors' }
  expect(typesFor('safetensors', sizes).slice(4)).toEqual([
    ['int4', 'INT4'],
    ['int4-g128', 'INT4-G128'],
    ['int4-g64', 'INT4-G64'],
    ['int4-g32', 'INT4-G32'],
  ])
  chooseType(options, 'int4-g32')
  expect([options, typeOf(options)]).toEqual([
    { dtype: 'keep', pack: 'int4-g32', max_shard_bytes: 1, container: 'safetensors' },
    'int4-g32',
  ])
  chooseType(options, 'bf16')
  expect([options, typeOf(options)]).toEqual([{ dtype: 'bf16', max_shard_bytes: 1, container: 'safetensors' }, 'bf16'])
  expect([isPacked('int4'), isPacked('q4_0'), typeName('int4-g64')]).toEqual([true, false, 'INT4-G64'])
})

test('types that are suggested are smaller than the model', () => {
  expect(suggestedTypes({ bytes: 4e9, parameters: 1e9 })).toEqual(['f16', 'q8_0', 'q4_k_m', 'q3_k_m', 'q2_k'])
  expect(suggestedTypes({ bytes: 2e9, parameters: 1e9 })).toEqual(['q8_0', 'q4_k_m', 'q3_k_m', 'q2_k'])
  expect(suggestedTypes({ bytes: 0.6e9, parameters: 1e9 })).toEqual(['q3_k_m', 'q2_k'])
  expect(suggestedTypes({ bytes: 0, parameters: 0 })).toEqual(['q8_0', 'q4_k_m', 'q3_k_m', 'q2_k'])
})

test('which importances decide a result', () => {
  const imatrix = { name: 'x', hash: 'abc' }
  expect([
    weighingOf({}, null),
    weighingOf({ importances: true }, imatrix),
    weighingOf({ importances: false }, imatrix),
  ]).toEqual([[], ['abc'], ['without importances']])
})

test('types by part are of GGUF files, have no name of their own, and are offered where they are chosen', () => {
  const type = 'parts:head=q6_k+up=q4_k' as const
  const options: WriteOptions = { dtype: 'f16', pack: 'int4', max_shard_bytes: 5e9, container: 'safetensors' }
  expect(storedForSize(options)).toEqual({ dtype: 'keep', max_shard_bytes: 5e9, container: 'gguf' })
  storeAs(options, { dtype: type, container: 'gguf' })
  expect(options).toEqual({ dtype: type, max_shard_bytes: 5e9, container: 'gguf' })
  expect([isQuantised(type), isPacked(type), typeName(type)]).toEqual([true, false, 'types chosen part by part'])
  expect(typesFor('gguf', sizes, type)[0]).toEqual([type, 'part by part'])
  expect(typesFor('safetensors', sizes, type)[0]).toEqual(['keep', 'as it is'])
  expect(becomes(sizes, type, 'gguf')).toBeNull()
})

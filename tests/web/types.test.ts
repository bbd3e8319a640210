import { expect, test } from 'vitest'
import { bytesIn, misfit, typeName, typesFor } from '../../www/types'
import { stored } from './stored'

/** The dimensions of Llama 3.2 1B, with 16 layers, and of the demo. */
const large = { ...stored.model, hidden_size: 2048, intermediate_size: 8192, vocab_size: 128_256, dtype: 'BF16' }
const demo = stored.model

test('quantised types are offered for GGUF alone', () => {
  const words = (container: 'gguf' | 'safetensors') => typesFor(container).map(([, word]) => word)
  expect(words('safetensors')).toEqual(['as it is', 'F32', 'F16', 'BF16'])
  expect(words('gguf').slice(4)).toEqual([
    'Q8_0, 8.5 bits', 'Q6_K, 6.6 bits', 'Q5_K, 5.5 bits', 'Q5_1, 6 bits', 'Q5_0, 5.5 bits', 'Q4_K, 4.5 bits', 'IQ4_NL, 4.5 bits',
    'IQ4_XS, 4.3 bits', 'Q4_1, 5 bits', 'Q4_0, 4.5 bits', 'MXFP4, 4.3 bits', 'Q3_K, 3.4 bits', 'Q2_K, 2.6 bits',
  ])
  expect([typeName('q4_k'), typeName('keep')]).toEqual(['Q4_K', 'the model\'s own types'])
})

test('sizes: floats, blocks, and an output matrix that keeps Q6_K', () => {
  expect(bytesIn('f32', 'gguf', large, 1000, 1)).toBe(4000)
  expect(bytesIn('q8_0', 'gguf', large, 1.236e9, 16)).toBeCloseTo(1.236e9 * 8.5 / 8, -3)
  const head = 128_256 * 2048
  expect(bytesIn('q4_k', 'gguf', large, 1.236e9, 16)).toBeCloseTo((1.236e9 * 4.5 + head * 2.0625) / 8, -3)
})

test('what is kept has the size it had, but for blocks that leave GGUF', () => {
  expect(bytesIn('keep', 'gguf', large, 1000, 1)).toBeNull()
  expect(bytesIn('keep', 'safetensors', { ...large, container: 'gguf', dtype: 'F16' }, 1000, 1)).toBeNull()
  expect(bytesIn('keep', 'safetensors', { ...large, container: 'gguf', dtype: 'mixed' }, 1000, 1)).toBe(2000)
})

test('rows that are no whole number of blocks become F16, and that is said', () => {
  expect(misfit('q4_k', large)).toBeNull()
  expect(misfit('f16', demo)).toBeNull()
  expect(misfit('q8_0', demo)).toMatch(/^This model has rows of 172 weights, which are no whole number of Q8_0's blocks of 32/)
  expect(misfit('q4_k', demo)).toContain('64 and 172')
  expect(misfit('iq4_xs', { ...large, hidden_size: 2080 })).toContain('rows of 2080 weights, which are no whole number of IQ4_XS\'s blocks of 256')
  expect(misfit('iq4_nl', { ...large, hidden_size: 2080 })).toBeNull()
  expect(bytesIn('q4_k', 'gguf', demo, 260_000, 5)).toBe(260_000 * 2)
})

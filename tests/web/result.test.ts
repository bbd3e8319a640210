import { describe, expect, test } from 'vitest'
import { resultFigures, resultWords } from '../../www/result/figures'
import { runElsewhere } from '../../www/take/commands'
import { parting, partingWords } from '../../www/try/difference'
import type { PlanReport } from '../../www/engine/protocol/plan'

const quality = (perplexity: number, top1_agreement: number | null = 0.98) => ({
  perplexity,
  kl: 0.001,
  top1_agreement,
  collapsed: false,
})
const report = {
  layers: { before: 12, after: 5 },
  bytes: { before: 1_160_000, after: 520_000 },
  original: quality(6.44, null),
  merged: quality(6.45),
  dropped: quality(6.52),
  plan: { operator: 'pool-refit' },
  text: { name: 'stories' },
} as unknown as PlanReport

describe('the result in large figures', () => {
  test('layers, size, next words and perplexity', () => {
    expect(resultFigures(report, 520_000, null)).toEqual([
      { value: '12 → 5', words: 'layers' },
      { value: '55\u00a0%', words: 'smaller: 520\u00a0kB of 1.16\u00a0MB' },
      { value: '98\u00a0%', words: 'of next words are the same' },
      { value: '+0.2\u00a0%', words: 'perplexity: 6.45, was 6.44' },
    ])
  })

  test('a model that grew, one that lost nothing, one that collapsed, one that is faster', () => {
    const whole = { ...report, layers: { before: 12, after: 12 } }
    expect(resultFigures(whole, 1_276_000, null).map(figure => figure.value)).toEqual([
      '12',
      '+10\u00a0%',
      '98\u00a0%',
      '+0.2\u00a0%',
    ])
    const lost = { ...report, merged: quality(700, 0.1) }
    expect(resultFigures(lost, 520_000, null).at(-1)?.value).toBe('109 ×')
    const speed = (generation: number) => ({ generation, prompt: 1, cache: null })
    const both = { original: speed(40), compressed: speed(60), type: 'keep', rounds: 3 } as never
    expect(resultFigures(report, 520_000, both).at(-1)).toEqual({
      value: '+50\u00a0%',
      words: 'speed: 60 tokens a second',
    })
  })

  test('what was lost, in a sentence', () => {
    expect(resultWords(report)).toBe(
      'The new model hardly differs from the original. Measured on stories. Dropping the same layers gives a perplexity of 6.52.',
    )
    expect(resultWords({ ...report, merged: quality(7.4, 0.8) })).toContain('differs noticeably')
    expect(resultWords({ ...report, merged: quality(11, 0.58) })).toContain('remove fewer layers')
    expect(resultWords({ ...report, merged: quality(11, null) })).toBe('Measured on stories.')
  })
})

describe('where two texts part', () => {
  test('at a word, with what both have before it', () => {
    const [own, other] = [' there was a little dog. He', ' there was a little girl. She']
    expect(parting(own, other)).toEqual({ same: ' there was a little', word: ' dog.', rest: ' He' })
    expect(partingWords(own, other)).toBe('The first 4 words are the same.')
  })

  test('nowhere, at once, or where one ends; no letter is lost', () => {
    expect(parting('a b', 'a b')).toEqual({ same: 'a b', word: '', rest: '' })
    expect(partingWords('a b', 'a b')).toBe('Both models write the same, word for word.')
    expect(partingWords('x y', 'z y')).toBe('The two part at the first word.')
    expect(partingWords('a b', 'a c')).toBe('The first word is the same.')
    expect(parting('a', 'a b')).toEqual({ same: 'a', word: '', rest: '' })
    for (const [own, other] of [
      ['a\n\n b  c ', 'a\n\n b d'],
      ['', 'x'],
      [' \n', ' \n'],
    ]) {
      const { same, word, rest } = parting(own!, other!)
      expect(same + word + rest).toBe(own)
    }
  })
})

describe('the result elsewhere', () => {
  test('a line for each program that loads it', () => {
    const gguf = runElsewhere('gguf', 'SmolLM2-135M-Instruct.Q4_1-laminated-26L.gguf')
    expect(gguf.map(each => each.program)).toEqual(['llama.cpp', 'Ollama', 'LM Studio'])
    expect(gguf[0]!.line).toBe('llama-cli -m SmolLM2-135M-Instruct.Q4_1-laminated-26L.gguf')
    expect(gguf[1]!.line).toBe(
      'echo "FROM ./SmolLM2-135M-Instruct.Q4_1-laminated-26L.gguf" > Modelfile && ollama create smollm2-135m-instruct.q4_1-laminated-26l -f Modelfile && ollama run smollm2-135m-instruct.q4_1-laminated-26l',
    )
    expect(runElsewhere('safetensors', 'x-5L').map(each => each.program)).toEqual(['transformers', 'vLLM'])
  })

  test('no name ends a line early', () => {
    expect(runElsewhere('gguf', 'a b"$(x).gguf')[0]!.line).toBe('llama-cli -m "a b\\"\\$(x).gguf"')
  })
})

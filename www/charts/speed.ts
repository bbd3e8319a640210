/** What fewer layers buy besides bytes: how fast llama.cpp runs a model, and how much cache it needs. */
import type { Candidate, CompareReport } from '../engine/protocol/compare'
import type { ModelReport } from '../engine/protocol/model'
import { plural } from '../ui/format'

/** How fast llama.cpp runs one of the models, in tokens a second. */
export interface ModelSpeed extends Pick<Candidate, 'method' | 'dtype' | 'layers'> {
  /** Of reading a prompt, and of writing what follows it. */
  prompt: number
  generation: number
  /** Bytes of the keys and values of 1000 tokens; null where they are not known. */
  cache: number | null
  /** Share, 0 to 1, by which the second fastest round is slower than the fastest: what a difference is worth. */
  noise: number
}

/** What the page measures, and not the engine: each model on one thread of a tab, the fastest of so many rounds. */
export interface Speeds {
  prompt_tokens: number
  generated_tokens: number
  rounds: number
  models: ModelSpeed[]
}

/** A comparison of methods, with what the page adds to it. */
export type Comparison = CompareReport & {
  /** How fast those models run that the verdicts name; absent where nobody measured it. */
  speeds?: Speeds
}

/** Tokens of context whose cache is told. */
export const CACHE_TOKENS = 1000
/** Keys and values are kept in F16, as llama.cpp does where it is not told otherwise. */
const CACHED_BYTES = 2
/** Speeds that differ by less are the same: two runs of one file differ by as much on a quiet machine. */
const SAME = 0.03
/** Rounds that differ by more say that the machine did something else. */
const BUSY = 0.1

/**
 * Bytes of the keys and values of the first 1000 tokens in the layers that stay: for each of them 2 × heads × width of a
 * head × tokens × 2 bytes. A layer with a window keeps no more tokens than its window has; a layer that reads the keys of
 * another one, or is recurrent, keeps none. Left out: the state of a recurrent layer, which does not grow with the text,
 * and what llama.cpp allocates beyond what it uses. All layers have heads of the same number and width; see `hasEvenHeads`.
 */
export function cacheBytes(
  {
    kinds,
    sliding_window: window,
    kv_heads: heads,
    head_dim: width,
  }: Pick<ModelReport, 'kinds' | 'sliding_window' | 'kv_heads' | 'head_dim'>,
  stays: readonly number[],
): number {
  const tokens = stays.map(layer => {
    // Where all layers are alike they are attention.
    const kind = kinds?.[layer] ?? (window === null ? 'attention' : 'attention with a window')
    if (!kind.startsWith('attention') || kind.includes('on the keys of another layer')) return 0
    return kind.includes('with a window') && window !== null ? Math.min(window, CACHE_TOKENS) : CACHE_TOKENS
  })
  return 2 * heads * width * CACHED_BYTES * tokens.reduce((sum, each) => sum + each, 0)
}

/** Whether all attention layers of a GGUF file have keys and values of the same number and width, by its metadata as llama.cpp spells them. */
export function hasEvenHeads(metadata: Readonly<Record<string, string>>): boolean {
  const of = (name: string) => Object.entries(metadata).find(([key]) => key.endsWith(`.attention.${name}`))?.[1]
  const heads = new Set((of('head_count_kv')?.match(/\d+/g) ?? []).filter(count => count !== '0'))
  const widths = new Set(
    ['key_length', 'value_length', 'key_length_swa', 'value_length_swa'].flatMap(name => of(name) ?? []),
  )
  return heads.size <= 1 && widths.size <= 1
}

/** Layers that stay where of each group only its first layer does. */
export function firstsOf(groups: readonly (readonly number[])[]): number[] {
  return groups.map(group => group[0]!)
}

/** What was measured of a model; null where nothing was. */
export function speedOf(
  speeds: Speeds | undefined,
  { method, dtype = 'keep', layers }: Pick<Candidate, 'method' | 'layers'> & { dtype?: Candidate['dtype'] },
): ModelSpeed | null {
  return speeds?.models.find(each => each.method === method && each.dtype === dtype && each.layers === layers) ?? null
}

/** Share within which the speeds of two models are the same: what their rounds differ by, and at least 3 %. */
export function within(...models: readonly Pick<ModelSpeed, 'noise'>[]): number {
  return Math.max(SAME, ...models.map(each => each.noise))
}

/** "13 % faster", "8 % slower", "as fast (within 3 %)", "2.4 times as fast": by the tokens a second of one model over those of another. */
export function fasterWords(ratio: number, same: number): string {
  if (Math.abs(ratio - 1) <= same) return `as fast (within ${Math.round(100 * same)}\u00a0%)`
  if (ratio >= 2) return `${ratio < 10 ? ratio.toFixed(1) : Math.round(ratio)} times as fast`
  return ratio > 1 ? `${Math.round(100 * (ratio - 1))}\u00a0% faster` : `${Math.round(100 * (1 - ratio))}\u00a0% slower`
}

/** What the numbers are, and whether they can be believed. */
export function measuredWords({
  prompt_tokens,
  generated_tokens,
  rounds,
  models,
}: Omit<Speeds, 'models'> & { models: readonly Pick<ModelSpeed, 'noise'>[] }): string {
  const best =
    rounds > 1
      ? `, the fastest of ${rounds} rounds`
      : ', in a single round, which says little where the machine is busy'
  const noise = Math.max(0, ...models.map(each => each.noise))
  const busy = noise > BUSY ? ` The machine was busy: rounds differ by up to ${Math.round(100 * noise)}\u00a0%.` : ''
  return `Speed: llama.cpp on one thread of a browser's tab, which reads a prompt of ${plural(prompt_tokens, 'token')} and writes ${generated_tokens} more${best}.${busy} Cache: keys and values of ${plural(CACHE_TOKENS, 'token')} in F16.`
}

import demo from './demo-result.json'
import facts from './demo-facts.json'
import address from './demo-points.bin?url'
import { unpackedPoints } from './packed'

/** What the walk shows, of the demo model on the page's text: made by `scripts/walk.mjs`, never computed here. */
export interface StoredDemo {
  layers: number
  /** The last token's stream after each layer, `points[layer][text]`, as the model has it. */
  points: Float64Array[][]
  /** The stream of each text's last token before the first layer: the token's embedding. */
  starts: Float64Array[]
  /** The end of each text, to read. */
  texts: string[]
  /** Of the page's stored result. */
  similarity: number[][]
  blockInfluence: number[]
  /** A corner of each layer's attention output projection. */
  weights: number[][][]
  /** The merges of the demo's plan, one after the other. */
  merges: StoredMerge[]
  /** Of the model as it is. */
  perplexity: number
  tokensScored: number
  textName: string
  fits: StoredFits
}

/** Three ways to make several layers one, measured on a text that nothing was fitted to. */
export interface StoredFits {
  text: string
  tokens: number
  /** Of the original on that text. */
  perplexity: number
  /** One for each number of layers removed, from 1 up. */
  models: ({ groups: number[][] } & Record<Way, StoredQuality>)[]
}

export type Way = 'refitted' | 'averaged' | 'dropped'

export interface StoredQuality {
  perplexity: number
  kl: number
  agreement: number
}

export interface StoredMerge {
  groups: number[][]
  merged: [number[], number[]]
  alpha: number
  perplexity: number
  kl: number
  /** Share of tokens with the same first choice. */
  agreement: number
  dropped: StoredQuality
}

/** The parts that are no activations; together they are a few kB. */
export const storedFacts: Omit<StoredDemo, 'points' | 'starts'> = {
  layers: demo.layers,
  texts: demo.point_list.map(({ text }) => text),
  similarity: demo.similarity,
  blockInfluence: demo.block_influence,
  weights: facts.weights,
  merges: facts.merges as StoredMerge[],
  perplexity: facts.perplexity,
  tokensScored: demo.text.tokens_scored,
  textName: demo.text.name,
  fits: facts.fits,
}

export async function loadDemo(): Promise<StoredDemo> {
  const response = await fetch(address)
  if (!response.ok || !response.body) throw new Error(`its stored activations did not arrive (${response.status})`)
  const [starts = [], ...points] = await unpackedPoints(response.body, facts.points)
  return { ...storedFacts, starts, points }
}

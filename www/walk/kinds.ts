/** Two small models whose layers are not all alike, or have experts: what was measured of them, and what it means for a merge. */
import { kindsOf } from '../charts/kinds'
import { valueAt } from '../charts/matrix'
import stored from './kinds.json'

/** Made by `scripts/kinds.mjs` from models that `tests/data/make_kinds.py` has trained, never computed here. */
export interface StoredKinds {
  name: string
  parameters: number
  /** In a layer that has experts, and how many of them serve each token. */
  experts: number[]
  /** What each layer is, in words. */
  kinds: string[]
  /** Rows up to the diagonal. */
  similarity: number[][]
  /** On the text that the layers were compared on, which the model has not read. */
  perplexity: number
  sequences: number
  tokens: number
}

export const storedKinds: readonly StoredKinds[] = stored

/** The kinds of both models, so that each looks the same in both. */
export const KINDS: readonly string[] = kindsOf(storedKinds.flatMap(({ kinds }) => kinds)).map(({ words }) => words)

export type Pair = readonly [first: number, second: number]

/** Two layers of one of the models. */
export interface PairAt {
  model: number
  pair: Pair
}

/** The pair of layers that is the most alike, of one kind or of two; null where there is none. */
export function mostAlikeOfKinds(
  { kinds, similarity }: Pick<StoredKinds, 'kinds' | 'similarity'>,
  ofOneKind: boolean,
): Pair | null {
  let best: Pair | null = null
  for (const [second, row] of similarity.entries()) {
    for (let first = 0; first < second; first++) {
      if (
        (kinds[first] === kinds[second]) === ofOneKind &&
        (best === null || row[first]! > valueAt(similarity, ...best)!)
      )
        best = [first, second]
    }
  }
  return best
}

const mixer = (kind: string) => kind.replace(/ and experts$/, '')

/** What two layers could become, in a sentence or two. */
export function mergeOf(one: string, other: string): string {
  if (one !== other) {
    const why =
      mixer(one) === mixer(other)
        ? 'One has a single MLP where the other has experts'
        : 'Mamba has no queries, keys and values to match those of attention'
    return `Two kinds. ${why}, so there is no mean of them. One can go, and the other be refitted to make up for it.`
  }
  if (/ and experts$/.test(one))
    return 'One kind. Everything but the experts can be averaged; nothing says which of the experts belong together.'
  return 'One kind. Each tensor of one has its partner in the other, so they can be averaged.'
}

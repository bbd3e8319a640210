import type { State } from '../state.svelte'
import { takenSentence } from './turn'

/** Why what is kept may not be touched now; empty where it may. */
export function taken({ busy, elsewhere }: State): string {
  return busy || (elsewhere ? takenSentence(elsewhere) : '')
}

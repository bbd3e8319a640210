import type { State } from '../state.svelte'
import { takenSentence } from './turn'

/** Why what is kept may not be touched now; empty where it may. */
export function taken({ busy, elsewhere }: State): string {
  return busy || (elsewhere ? takenSentence(elsewhere) : '')
}

/** Why nothing can be done with the plan that was made; empty where it is that of the settings. */
export function outdated({ planFresh }: State): string {
  return planFresh === 'stale' ? 'The plan has changed since; compress again.' : ''
}

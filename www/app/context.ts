import { createContext } from 'svelte'
import type { Actions } from './actions'
import type { State } from './state.svelte'

export interface Page {
  state: State
  actions: Actions
}

export const [usePage, providePage] = createContext<Page>()

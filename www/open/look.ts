import type { Actions } from '../app/actions'
import { Failure } from '../engine/errors'
import type { Candidate } from './remote/candidates'
import type { Run } from '../app/state.svelte'

/** Looks up a repository or an address, and opens the model there; several are shown to choose from. */
export function look(actions: Actions, text: string): Promise<boolean> {
  return actions.during('open', run => lookIn(actions, run, text))
}

/** The same within a run that is going on. */
export async function lookIn(actions: Actions, run: Run, text: string): Promise<void> {
  const { state } = actions
  state.found = null
  const { find, opened } = await remoteParts()
  const { endpoint, token } = state.remote
  const tell = (which = '') =>
    actions.observe({
      progress: {
        stage: 'read',
        done: 0,
        total: 0,
        unit: 'bytes',
        detail: `the list of files of ${text.trim()}${which}`,
      },
    })
  tell()
  const found = await find(text, {
    endpoint,
    token,
    signal: run.controller.signal,
    again: (attempt, of) => tell(`, attempt ${attempt} of ${of}`),
  })
  const [only, another] = found.candidates
  if (only && !another) await actions.openIn(run, opened(only))
  else state.found = found
}

/** Opens one of the models that were found. */
export function openFound(actions: Actions, candidate: Candidate): Promise<boolean> {
  return actions.during('open', async run => actions.openIn(run, (await remoteParts()).opened(candidate)))
}

/** What reads from the network is loaded when something is named, and not before. */
function remoteParts() {
  return import('./remote/find').catch(() => {
    throw new Failure('source', 'A part of this page could not be loaded. Reload the page.')
  })
}

import type { Actions } from '../app/actions'
import { Failure } from '../engine/errors'
import type { Features } from '../engine/features'
import type { NumberType } from '../engine/protocol/output'
import type { Run } from '../app/state.svelte'
import { trialFiles, triedType, type Which } from './files'
import type { Continuation } from './llama'

/** So many tokens each. */
export const TOKENS = 60

/** What the two models made of one prompt. */
export interface Trial {
  prompt: string
  /** What the compressed model is written in. */
  type: NumberType
  original: Continuation | null
  compressed: Continuation | null
}

/** Why llama.cpp cannot run in this browser; empty where it can. */
export function cannotRun(features: Features | null): string {
  if (features?.llama === false)
    return 'This browser cannot run llama.cpp: it needs 64-bit WebAssembly memory and functions that wait, as Chrome and Edge 137 and Firefox 153 have them. Take the model away as GGUF and run it outside the browser.'
  return features?.privateStorage === false ? 'This browser has no private storage to write the models to.' : ''
}

/** Continues the prompt with the original and then with the compressed model. */
export function tryBoth(actions: Actions, prompt: string): Promise<boolean> {
  return actions.during('try', async run => {
    const { state } = actions
    state.trial = null
    for (const which of ['original', 'compressed'] as const) {
      const files = await trialFiles(actions, run, which)
      state.trial ??= { prompt, type: triedType(state), original: null, compressed: null }
      await continueOne(actions, run, which, files)
      if (run.controller.signal.aborted) return
    }
  })
}

async function continueOne(actions: Actions, run: Run, which: Which, files: Blob[]): Promise<void> {
  const { state } = actions
  const say = (done: number, detail: string) =>
    actions.observe({ progress: { stage: 'continue', done, total: TOKENS, unit: 'tokens', detail } })
  say(0, `with the ${which} model: llama.cpp is loading it`)
  const { continueWith } = await import('./llama').catch(() => {
    throw new Failure('source', 'A part of this page could not be loaded. Reload the page.')
  })
  const context = Math.min(1024, state.model?.context ?? 1024)
  const told = (so: Continuation) => {
    if (state.trial) state.trial = { ...state.trial, [which]: so }
    say(so.tokens, `with the ${which} model: token ${so.tokens} of ${TOKENS}`)
  }
  const asked = { prompt: state.trial?.prompt ?? '', tokens: TOKENS, context, signal: run.controller.signal }
  told(await continueWith(files, asked, told))
}

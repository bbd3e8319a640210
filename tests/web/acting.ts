import { vi } from 'vitest'
import { Actions } from '../../www/app/actions'
import { EngineClient } from '../../www/engine/client'
import { State } from '../../www/app/state.svelte'
import { MockEngine } from './mock/engine'
import { inProcess } from './port'

/** A page's state and actions on mock engines in this process, one for each worker that was started. */
export function acting() {
  vi.stubGlobal('navigator', {})
  const workers: ReturnType<typeof inProcess>[] = []
  const state = new State()
  const actions = new Actions(
    state,
    new EngineClient(() => {
      const worker = inProcess(() => new MockEngine(state.preference))
      workers.push(worker)
      return worker
    }, 50),
  )
  Object.assign(state.calibration, { samples: 32, tokens: 4 })
  return { state, actions, workers }
}

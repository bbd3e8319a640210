import type { EngineEvent, Kept } from '../../engine/protocol/events'
import { costOf } from '../../charts/costs'
import type { Activity } from '../progress'
import type { State } from '../state.svelte'
import { layersFrom } from './parts'

/** What happens in the middle of a run: what the engine tells, or what llama.cpp does meanwhile. */
export type RunEvent = EngineEvent | { progress: Activity }

/** Shows what happens in the middle of a run. */
export function take(state: State, event: Exclude<RunEvent, { kept: Kept }>): void {
  if ('row' in event && state.run?.kind === 'costs') {
    const cost = costOf(event.row)
    if (state.costs && cost) state.costs = { ...state.costs, measured: [...state.costs.measured, cost] }
  } else if ('row' in event) state.rows = [...state.rows, event.row]
  else if ('heal' in event) state.healing = [...state.healing, event.heal]
  else if ('size' in event) state.sizes = state.sizes && { ...state.sizes, points: [...state.sizes.points, event.size] }
  else if ('step' in event) state.steps = state.run?.kind === 'plan' ? [...state.steps, event.step] : state.steps
  else if ('layer' in event) {
    const { layer, layers, row, embedding } = event.layer
    const live = state.live ?? { layers, rows: [], embedding: [] }
    const put = <T>(list: T[], item: T) => Object.assign([...list], { [layer]: item })
    state.live = { layers, rows: put(live.rows, row), embedding: put(live.embedding, embedding) }
  } else {
    const tick = { at_ms: performance.now(), progress: event.progress }
    if (state.loading !== null)
      Object.assign(state, { loading: `Loading ${event.progress.detail}`, arrived: event.progress })
    if (!state.run) return
    const sameStage = state.run.last?.progress.stage === event.progress.stage
    state.run = {
      ...state.run,
      first: sameStage ? state.run.first : tick,
      last: tick,
      layersFrom: layersFrom(state.run, tick),
    }
  }
}

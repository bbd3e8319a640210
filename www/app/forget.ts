import { removeJob } from '../engine/jobs'
import type { State } from './state.svelte'
import { dropTrialFiles } from '../try/files'

/** What rests on what: results of a stage and of all after it. */
export type Results = 'maps' | 'plan' | 'saved'

/** Drops results that a new one will replace, and what rests on them. */
export function forget(state: State, from: Results): void {
  const place = state.saved?.report.place
  if (place?.kind === 'download') {
    const { url, job, ended } = place.download
    if (url) URL.revokeObjectURL(url)
    void ended.finally(() => removeJob(job))
  }
  state.saved = null
  if (from === 'saved') return
  dropTrialFiles(state, 'compressed')
  state.trial = state.speed = null
  state.plan = null
  state.search = null
  state.steps = []
  state.sizes = null
  state.healing = []
  if (from === 'plan') return
  state.maps = state.comparison = state.costs = null
  state.rows = []
  state.pair = [0, 1]
}

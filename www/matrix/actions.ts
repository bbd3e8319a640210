import type { Actions } from '../actions'
import type { Metric } from '../engine/protocol'
import { keyOf } from '../state.svelte'
import { readRun, remembered } from './runs'
import type { Against } from './state.svelte'

/** Chooses a metric; where everything else is as it was, the layers are compared by it at once, from what was captured. */
export function chooseMetric(actions: Actions, metric: Metric): void {
  const { state } = actions
  state.calibration.metric = metric
  const { maps, matrix } = state
  if (matrix.against?.kind === 'metric' && matrix.against.metric === metric) matrix.against = null
  if (maps && !state.run && keyOf({ ...maps.options, metric }) === keyOf(state.calibration)) void actions.compare()
}

/** Chooses what the present similarities are compared with, and gets it where it is not here yet. */
export async function chooseAgainst(actions: Actions, against: Against | null): Promise<void> {
  const { state } = actions
  if (against?.kind !== 'metric') {
    state.matrix.against = against
    return
  }
  const { metric } = against
  const key = state.maps?.key ?? ''
  const known = state.matrix.others.key === key ? state.matrix.others.by : {}
  if (!known[metric]) {
    const got = await actions.during('similarity', async run => {
      await actions.ensureMaps(run)
      const report = await actions.call(run, 'similarityBy', [metric])
      state.matrix.others = { key, by: { ...known, [metric]: report.similarity } }
    })
    if (!got) {
      state.matrix.against = null
      return
    }
  }
  state.matrix.against = against
}

/** A matrix from a file, to compare with. */
export async function openRun(actions: Actions, file: File): Promise<void> {
  const { state } = actions
  try {
    const run = await readRun(file)
    state.matrix.runs = remembered(state.matrix.runs, run)
    state.matrix.against = { kind: 'run', id: run.id }
    state.notice = null
  } catch (thrown) {
    actions.report(thrown, null)
  }
}

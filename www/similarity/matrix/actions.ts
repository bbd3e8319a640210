import type { Actions } from '../../app/actions'
import type { Metric } from '../../engine/protocol/similarity'
import { keyOf } from '../../app/keys'
import { readRun, remembered } from './runs'
import type { Against } from './state.svelte'

/**
 * Chooses a metric. Where everything else is as it was, the layers are compared by it at once, from what was
 * captured; another choice made meanwhile comes after it, and one that fails is taken back.
 */
export async function chooseMetric(actions: Actions, metric: Metric): Promise<void> {
  const { state } = actions
  state.calibration.metric = metric
  const { maps, matrix } = state
  if (matrix.against?.kind === 'metric' && matrix.against.metric === metric) matrix.against = null
  if (
    !maps ||
    state.run ||
    maps.report.metric === metric ||
    keyOf({ ...maps.options, metric }) !== keyOf(state.calibration)
  )
    return
  const done = await actions.compare('metric')
  const wanted = state.calibration.metric
  if (!done && wanted === metric) state.calibration.metric = maps.report.metric
  else if (wanted !== metric) await chooseMetric(actions, wanted)
}

/** Chooses what the present similarities are compared with, and gets it where it is not here yet. */
export async function chooseAgainst(actions: Actions, against: Against | null): Promise<void> {
  const { state } = actions
  if (state.run) return
  if (against?.kind !== 'metric') {
    state.matrix.against = against
    return
  }
  const { metric } = against
  const key = state.maps?.key ?? ''
  const known = state.matrix.others.key === key ? state.matrix.others.by : {}
  if (!known[metric]) {
    const got = await actions.during('metric', async run => {
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

import type { Actions } from '../app/actions'
import { namedModels } from '../charts/comparison'
import { keyOfRow } from '../charts/rows'
import { cacheBytes, firstsOf, type Comparison } from '../charts/speed'
import { modelWords, originalRows, type Measured } from '../charts/verdicts'
import { removeJob } from '../engine/jobs'
import { Failure } from '../engine/errors'
import { freeSpace, SPARE_BYTES } from '../engine/space'
import type { ModelReport } from '../engine/protocol/model'
import type { NumberType } from '../engine/protocol/output'
import { bytes } from '../ui/format'
import { titleOf } from '../words/methods'
import type { Run } from '../app/state.svelte'
import { droppedTo, trialFiles, triedType, writtenAs, type Which } from './files'
import { CONTEXT, GENERATED, inRounds, ROUNDS, type Timing } from './rounds'

/** More than this llama.cpp cannot hold in a page: a file may have 2 GB, and the memory of its module is at most 4 GB. */
export const MOST_BYTES = 2e9

/** Why a model of so many bytes is not run in a page; empty where it can be. */
export function tooLarge(size: number): string {
  return size > MOST_BYTES
    ? `llama.cpp cannot hold ${bytes(size)} in a page, at most ${bytes(MOST_BYTES)}; take the model away and measure it outside the browser.`
    : ''
}

/** A model's pace, and the bytes of its cache of 1000 tokens; null where they are not known. */
export interface Speed extends Timing {
  cache: number | null
}

/** How fast the original and the result run, side by side. */
export interface BothSpeeds extends Record<Which, Speed> {
  /** What the result is written in. */
  type: NumberType
  rounds: number
}

interface Timed {
  /** "the original in Q4_K_M". */
  name: string
  files: Blob[]
}

/** Measures how fast the original and the result run. A stop keeps the rounds that were whole. */
export function measureBoth(actions: Actions): Promise<boolean> {
  return actions.during('speed', async run => {
    const { state } = actions
    state.speed = null
    const models: Timed[] = []
    for (const which of ['original', 'compressed'] as const)
      models.push({ name: `the ${which} model`, files: await trialFiles(actions, run, which) })
    const [type, { plan, model }] = [triedType(state), state]
    await timed(actions, run, models, ([original, compressed], rounds) => {
      if (!original || !compressed || !plan || !model) return
      const all = Array.from({ length: model.layers }, (_, layer) => layer)
      state.speed = {
        type,
        rounds,
        original: withCache(original, model, all),
        compressed: withCache(compressed, model, firstsOf(plan.report.plan.groups)),
      }
    })
  })
}

/** The models of a comparison to time, in two parts: those that a page can hold, and those that it cannot. */
export function timeable(report: Comparison): { fit: Measured[]; large: Measured[] } {
  const all = namedModels(report)
  return { fit: all.filter(each => each.bytes <= MOST_BYTES), large: all.filter(each => each.bytes > MOST_BYTES) }
}

/**
 * Measures how fast the models run that the verdicts of the comparison name. How fast a model runs depends on the
 * shapes and types of its matrices and not on the values in them, so that nothing is fitted: of each group of layers
 * the first stays, in the row's type. A stop keeps the rounds that were whole.
 */
export function measureFront(actions: Actions): Promise<boolean> {
  return actions.during('speeds', async run => {
    const { state } = actions
    const { comparison } = state
    if (!comparison) throw new Failure('usage', 'Compare the methods first; there is nothing to measure yet.')
    const { report } = comparison
    const { fit } = timeable(report)
    await checkSpace(fit)
    const groups = new Map([...originalRows(report), ...report.rows].map(row => [keyOfRow(row), row.groups]))
    const stays = (each: Measured) =>
      groups.get(each.key)?.length
        ? groups.get(each.key)!
        : Array.from({ length: report.model.layers }, (_, layer) => [layer])
    const jobs: string[] = []
    try {
      const models: Timed[] = []
      for (const each of fit) {
        const name = modelWords(each, report.model.layers, method => titleOf(state.methods, method))
        if (each.key === '') models.push({ name, files: await trialFiles(actions, run, 'original') })
        else {
          await actions.ensureModel(run)
          const { files, job } = await writtenAs(
            actions,
            run,
            droppedTo(stays(each)),
            { dtype: each.dtype, importances: false, name: `model-${models.length}` },
            each.bytes,
          )
          jobs.push(job)
          models.push({ name, files })
        }
      }
      await timed(actions, run, models, (paces, rounds) => {
        const speeds = paces.map((pace, i) => {
          const { method, dtype, layers } = fit[i]!
          const { prompt, generation, cache, noise } = withCache(pace, report.model, firstsOf(stays(fit[i]!)))
          return { method, dtype, layers, prompt, generation, cache, noise }
        })
        state.comparison = {
          ...comparison,
          report: {
            ...report,
            speeds: { prompt_tokens: paces[0]?.promptTokens ?? 0, generated_tokens: GENERATED, rounds, models: speeds },
          },
        }
      })
    } finally {
      for (const job of jobs) void removeJob(job).catch(() => {})
    }
  })
}

/** All files lie in the private storage at the same time. */
async function checkSpace(models: readonly Measured[]): Promise<void> {
  const needed = models.reduce((sum, each) => sum + each.bytes + SPARE_BYTES, 0)
  const free = await freeSpace()
  if (free !== null && free < needed)
    throw new Failure(
      'limit',
      `The models need ${bytes(needed)} of this browser's storage, which has ${bytes(free)} free. Make room there, or compare fewer models.`,
    )
}

function withCache(pace: Timing, model: ModelReport, stays: readonly number[]): Speed {
  return { ...pace, cache: pace.evenHeads ? cacheBytes(model, stays) : null }
}

async function timed(
  actions: Actions,
  run: Run,
  models: readonly Timed[],
  told: (paces: Timing[], rounds: number) => void,
): Promise<void> {
  const { paceOf } = await import('./llama').catch(() => {
    throw new Failure('source', 'A part of this page could not be loaded. Reload the page.')
  })
  const context = Math.min(CONTEXT, actions.state.model?.context ?? CONTEXT)
  const say = (done: number, total: number, detail: string) =>
    actions.observe({ progress: { stage: 'time', done, total, unit: 'runs', detail } })
  await inRounds(
    models,
    ROUNDS,
    async ({ name, files }, { round, done, total }) => {
      say(done, total, `${name}, round ${round + 1} of ${ROUNDS}`)
      return paceOf(files, context, run.controller.signal)
    },
    told,
  )
}

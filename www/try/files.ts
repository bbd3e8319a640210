import type { Actions } from '../app/actions'
import { fileIn, findJob, jobFolder, newJob, removeJob } from '../engine/jobs'
import type { WriteOptions } from '../engine/protocol/output'
import type { MergePlan } from '../engine/protocol/plan'
import { neededSpace } from '../engine/space'
import { modelName, resultBytes } from '../take'
import { keyOf } from '../app/keys'
import type { Run, State } from '../app/state.svelte'
import { sizeIn } from '../words/types'

export type Which = 'original' | 'compressed'

/** One of the two models as llama.cpp reads it. */
export interface TrialFiles {
  /** What it was made of; another key means that it has to be made again. */
  key: unknown
  files: Blob[]
  /** Where it was written for this alone. */
  job: string | null
}

/** The model as GGUF files: those that are there already, else one written into the private storage. */
export async function trialFiles(actions: Actions, run: Run, which: Which): Promise<Blob[]> {
  const { state } = actions
  const key = which === 'original' ? state.origin : keyOf([state.plan?.key, triedType(state)])
  const known = state.trialFiles[which]
  if (known?.key === key) return known.files
  dropTrialFiles(state, which)
  const there = which === 'original' ? opened(state) : await saved(state)
  const made = there ? { files: there, job: null } : await written(actions, run, which)
  state.trialFiles = { ...state.trialFiles, [which]: { key, ...made } }
  return made.files
}

export function dropTrialFiles(state: State, which: Which): void {
  const job = state.trialFiles[which]?.job
  if (job) void removeJob(job).catch(() => {})
  state.trialFiles = { ...state.trialFiles, [which]: null }
}

/** The files that were opened, where they are GGUF files of this computer. */
function opened({ origin, model }: State): Blob[] | null {
  if (!origin || origin === 'demo' || model?.container !== 'gguf') return null
  const files = origin.files.flatMap(each => ('file' in each && /\.gguf$/i.test(each.name) ? [each.file] : []))
  return files.length > 0 && files.length === origin.files.length ? files : null
}

/** What was written for the downloads, where that is one GGUF file of this plan. */
async function saved({ saved, savedFresh }: State): Promise<Blob[] | null> {
  const place = saved?.report.place
  const [only, another] = saved?.report.report.files ?? []
  if (savedFresh !== 'fresh' || place?.kind !== 'download' || !only?.name.endsWith('.gguf') || another) return null
  return [await fileIn(await findJob(place.download.job), only.name)]
}

async function written(actions: Actions, run: Run, which: Which): Promise<{ files: Blob[]; job: string }> {
  const { state } = actions
  const { plan, model } = state
  if (which === 'original') {
    if (!model) throw { kind: 'usage', message: 'Open a model first.' }
    await actions.ensureModel(run)
    return writtenAs(
      actions,
      run,
      droppedTo(Array.from({ length: model.layers }, (_, layer) => [layer])),
      { dtype: 'keep', name: 'original' },
      model.bytes,
    )
  }
  if (!plan) throw { kind: 'usage', message: 'Compress first; there is nothing to try yet.' }
  await actions.ensureMaps(run)
  const dtype = triedType(state)
  const size = sizeIn(plan.report.sizes ?? [], dtype, 'gguf')?.bytes ?? resultBytes(state)
  return writtenAs(actions, run, plan.report.plan, { dtype, name: modelName(actions) }, size)
}

/** The model of a plan, written into the private storage as one GGUF file of about so many bytes, in a folder that the caller removes. */
export async function writtenAs(
  actions: Actions,
  run: Run,
  plan: MergePlan,
  how: Pick<WriteOptions, 'dtype' | 'importances' | 'name'>,
  size: number,
): Promise<{ files: Blob[]; job: string }> {
  const options: WriteOptions = { ...how, container: 'gguf', max_shard_bytes: 1e12 }
  const job = newJob()
  try {
    const needed_bytes = neededSpace(size, size, false)
    const {
      files: [file],
    } = await actions.call(run, 'write', [plan, options, { kind: 'private', job, needed_bytes }])
    return { files: [await fileIn(await jobFolder(job), file?.name ?? '')], job }
  } catch (error) {
    await removeJob(job).catch(() => {})
    throw error
  }
}

/** The plan that keeps the first layer of each group as it is; one layer a group merges nothing. */
export function droppedTo(groups: readonly (readonly number[])[]): MergePlan {
  return {
    n_layers: groups.flat().length,
    operator: 'drop',
    steps: [],
    groups: groups.map(group => [...group]),
    weights: groups.map(group => group.map((_, i) => (i === 0 ? 1 : 0))),
  }
}

/** In the type that was chosen, where that is one of a GGUF file. */
export function triedType({ writeOptions: { container, dtype } }: State): WriteOptions['dtype'] {
  return container === 'gguf' ? dtype : 'keep'
}

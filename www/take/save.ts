import type { Actions } from '../app/actions'
import type { Streaming } from './download/stream'
import { fileIn, findJob, newJob, removeJob } from '../engine/jobs'
import { Failure } from '../engine/errors'
import type { WriteTarget } from '../engine/messages'
import type { WriteOptions, WriteReport } from '../engine/protocol/output'
import { neededSpace } from '../engine/space'
import { newFolder } from '../engine/sink'
import { clickLink } from '../ui/save'
import { bytesStoredAs, resultName } from '../words/results'
import { keyOf } from '../app/keys'
import type { Download, Run, Saved, State } from '../app/state.svelte'

/** Writes the model into a new folder inside one the user chooses. */
export async function saveToFolder(actions: Actions): Promise<void> {
  const parent = await window.showDirectoryPicker({ id: 'laminate-out', mode: 'readwrite' }).catch(() => null)
  if (!parent) return
  await actions.during('write', async run => {
    const folder = await newFolder(parent, modelName(actions))
    try {
      const write = await begin(actions, run)
      const report = await write({ kind: 'directory', parent, folder })
      finish(actions, { report, place: { kind: 'folder', name: `${parent.name}/${folder.name}`, folder } })
    } catch (error) {
      // The worker removes what it wrote; one that had to be ended could not.
      await parent.removeEntry(folder.name, { recursive: true }).catch(() => {})
      throw error
    }
  })
}

/** Writes a model of one file where the user chooses. */
export async function saveToFile(actions: Actions): Promise<void> {
  const file = await window
    .showSaveFilePicker({
      id: 'laminate-out',
      suggestedName: `${modelName(actions)}.gguf`,
      types: [{ description: 'GGUF', accept: { 'application/octet-stream': ['.gguf'] } }],
    })
    .catch(() => null)
  if (!file) return
  await actions.during('write', async run => {
    try {
      const write = await begin(actions, run)
      const report = await write({ kind: 'file', file })
      finish(actions, { report, place: { kind: 'file', name: file.name, file } })
    } catch (error) {
      // The same: the picker has made an empty file, where there was none before.
      if (await isEmpty(file)) await (file as Removable).remove?.().catch(() => {})
      throw error
    }
  })
}

/**
 * Writes the model into the private storage, where the engine reads it back, and from there into the
 * browser's downloads: streamed by the service worker, or as a file that is packed there first.
 *
 * A stream straight from the engine would need no storage at all, but what has left cannot be read back,
 * and a model that was not is not handed out. Streaming saves the zip: half the room, and writing all of it twice.
 */
export async function saveAsDownload(actions: Actions): Promise<void> {
  const { state } = actions
  await actions.during('write', async run => {
    const job = newJob()
    try {
      const write = await begin(actions, run)
      const stream = await loadStreaming(state)
      const report = await write({ kind: 'private', job, needed_bytes: downloadSpace(state, stream === null) })
      const name = fileName(actions, report)
      const streaming = await stream?.(job, name).catch(() => null)
      const download = streaming
        ? { job, name, url: null, bytes: 0, ...streaming }
        : await packed(actions, run, job, name)
      finish(actions, { report, place: { kind: 'download', download } })
      if (download.url) clickLink(download.url, download.name)
    } catch (error) {
      await removeJob(job).catch(() => {})
      throw error
    }
  })
}

/** Writes the model into the private storage, within a run that is going on, for what takes its files from there. */
export async function saveInStorage(actions: Actions, run: Run): Promise<void> {
  const job = newJob()
  try {
    const write = await begin(actions, run)
    const report = await write({ kind: 'private', job, needed_bytes: downloadSpace(actions.state, false) })
    const name = fileName(actions, report)
    const download = { job, name, url: null, bytes: 0, ended: Promise.resolve() }
    finish(actions, { report, place: { kind: 'download', download } })
  } catch (error) {
    await removeJob(job).catch(() => {})
    throw error
  }
}

/** The files of the present plan as they are to be written now, where they lie; null where there are none, or only a zip. */
export async function writtenFiles({ saved, savedFresh }: State): Promise<File[] | null> {
  if (savedFresh !== 'fresh' || !saved) return null
  const { place, report } = saved.report
  if (place.kind === 'file') return [await place.file.getFile()]
  if (place.kind === 'download' && place.download.url) return null
  const folder = place.kind === 'folder' ? place.folder : await findJob(place.download.job)
  return Promise.all(report.files.map(({ name }) => fileIn(folder, name)))
}

/** Streams what was written once more, after it was stopped or has broken off. */
export async function downloadAgain(actions: Actions, download: Download): Promise<void> {
  const stream = await loadStreaming(actions.state)
  const streaming = await stream?.(download.job, download.name).catch(() => null)
  if (streaming) download.ended = streaming.ended
  else actions.report(new Failure('source', `The browser did not take ${download.name}. Write the model again.`), null)
}

/** Why no download can be put together in this browser; empty where one can. */
export function noDownloads({ features }: State): string {
  return features?.privateStorage === false ? 'This browser has no private storage to put a download together in.' : ''
}

/** Bytes of private storage that a download needs. */
export function downloadSpace(state: State, zipped = !state.features?.serviceWorker): number {
  return neededSpace(resultBytes(state), state.writeOptions.max_shard_bytes, zipped && !isSingleFile(state))
}

/** Whether the result is one file, which needs neither a folder nor a zip. */
export function isSingleFile(state: State): boolean {
  return state.writeOptions.container === 'gguf' && resultBytes(state) <= state.writeOptions.max_shard_bytes
}

/** Bytes of all tensors of the result. */
export function resultBytes({ plan, writeOptions }: State): number {
  return plan ? bytesStoredAs(plan.report, writeOptions) : 0
}

export function modelName({ state }: Actions): string {
  return resultName(state.model?.name ?? '', state.plan?.report.layers.after ?? 0)
}

function fileName(actions: Actions, { files }: WriteReport): string {
  return `${modelName(actions)}.${files.length === 1 ? 'gguf' : 'zip'}`
}

type Removable = FileSystemFileHandle & { remove?(): Promise<void> }

async function isEmpty(file: FileSystemFileHandle): Promise<boolean> {
  return file.getFile().then(
    ({ size }) => size === 0,
    () => false,
  )
}

type Stream = (job: string, name: string) => Promise<Streaming>

/** Starts the service worker, before the model is written so that the room needed is known; null where it cannot be. */
async function loadStreaming(state: State): Promise<Stream | null> {
  if (!state.features?.serviceWorker) return null
  try {
    const { startService, handOver } = await import('./download/stream')
    const service = await startService()
    return async (job, name) => {
      const streaming = await handOver(service, job, name, sent => (state.streaming = { job, sent }))
      void streaming.ended.then(ended => (state.streaming = { job, ended }))
      return streaming
    }
  } catch {
    return null
  }
}

async function packed(actions: Actions, run: Run, job: string, name: string): Promise<Download> {
  const file = await actions.call(run, 'pack', [job, modelName(actions)])
  return { job, name, url: URL.createObjectURL(file), bytes: file.size, ended: Promise.resolve() }
}

/** Drops what was written before, sees that the engine has the model, and gives what writes it. */
async function begin(actions: Actions, run: Run) {
  const { state } = actions
  const { plan } = state
  if (!plan) throw { kind: 'usage', message: 'Compress first; there is nothing to write yet.' }
  actions.forget('saved')
  await actions.ensureMaps(run)
  if (plan.report.healed && !actions.held.healed)
    throw {
      kind: 'usage',
      message: 'The layers that were healed are gone with the engine that held them; heal the model again.',
    }
  return (target: WriteTarget) => actions.call(run, 'write', [plan.report.plan, named(actions), target])
}

function finish(actions: Actions, saved: Saved): void {
  const { state } = actions
  state.saved = { report: saved, options: named(actions), key: keyOf([state.plan?.key, state.writeOptions]) }
}

function named(actions: Actions): WriteOptions {
  return { ...actions.state.writeOptions, name: modelName(actions) }
}

import type { Actions } from './actions'
import { newJob, removeJob } from './engine/jobs'
import type { WriteTarget } from './engine/messages'
import { newFolder } from './engine/sink'
import { keyOf } from './state.svelte'

/** Writes the model into a new folder inside one the user chooses. */
export async function saveToFolder(actions: Actions): Promise<void> {
  const parent = await window.showDirectoryPicker({ id: 'laminate-out', mode: 'readwrite' }).catch(() => null)
  if (!parent) return
  await actions.during('write', async () => {
    const folder = await newFolder(parent, modelName(actions))
    try {
      await write(actions, { kind: 'directory', parent, folder }, { folder: `${parent.name}/${folder.name}`, url: null, job: null })
    } catch (error) {
      // The worker removes what it wrote; one that had to be ended could not.
      await parent.removeEntry(folder.name, { recursive: true }).catch(() => {})
      throw error
    }
  })
}

/** Writes the model into the browser's storage as one zip and offers that as a download. */
export async function saveAsZip(actions: Actions): Promise<void> {
  const { plan } = actions.state
  const ok = await actions.during('write', async () => {
    const job = newJob()
    try {
      const expected_bytes = plan?.report.bytes.after ?? 0
      await write(actions, { kind: 'zip', job, name: modelName(actions), expected_bytes }, { folder: null, url: null, job })
    } catch (error) {
      await removeJob(job).catch(() => {})
      throw error
    }
  })
  const { saved } = actions.state
  if (ok && saved?.report.url) download(saved.report.url, `${modelName(actions)}.zip`)
}

export function modelName({ state }: Actions): string {
  const name = (state.model?.name ?? 'model').replace(/[^\w.-]+/g, '-').replace(/^[.-]+/, '') || 'model'
  return `${name}-laminated-${state.plan?.report.layers.after ?? 0}L`
}

/** Hands text or a drawing made on this page to the user. */
export function saveText(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }))
  download(url, name)
  setTimeout(() => URL.revokeObjectURL(url), 10_000)
}

export function download(url: string, name: string): void {
  const link = document.createElement('a')
  link.href = url
  link.download = name
  link.click()
}

async function write(actions: Actions, target: WriteTarget, place: { folder: string | null; url: string | null; job: string | null }): Promise<void> {
  const { state } = actions
  const run = state.run
  const plan = state.plan
  if (!run || !plan) return
  actions.forget('saved')
  await actions.ensureModel(run)
  const options = { ...state.writeOptions }
  const written = await actions.call(run, 'write', [plan.report.plan, options, target])
  const url = written.zip ? URL.createObjectURL(written.zip) : null
  state.saved = { report: { ...written, ...place, url }, options, key: keyOf([plan.key, options]) }
}

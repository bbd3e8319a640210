import { makeZip } from 'client-zip'
import { Failure } from './errors'
import { jobFolder, removeJob } from './jobs'
import type { Calls, Written } from './messages'
import type { Observe, WasmEngine } from './protocol'
import { speaking } from './speaking'
import { DirectoryFolder, PrivateFolder, SyncWriter } from './sink'

/** Kept free beside the model: file headers, and what the browser itself needs. */
const SPARE_BYTES = 16e6

/** Writes a model where the user asked, and leaves nothing behind where that fails. */
export async function writeTo(engine: WasmEngine, [plan, options, target]: Calls['write']['args'], observe: Observe): Promise<Written> {
  if (target.kind === 'directory') {
    const folder = new DirectoryFolder(target.parent, target.folder)
    const report = await orUndo(() => engine.write(plan, options, speaking(folder), observe), () => folder.abort())
    return { report, zip: null }
  }
  await refuseWithoutRoom(target.expected_bytes)
  return orUndo(async () => {
    const storage = await jobFolder(target.job)
    const folder = new PrivateFolder(storage)
    const report = await orUndo(() => engine.write(plan, options, speaking(folder), observe), () => folder.abort())
    const zip = await pack(storage, folder.names(), target.name, observe)
    return { report, zip }
  }, () => removeJob(target.job))
}

/** One store-only zip of the files, streamed; each file is removed as soon as the zip holds it. */
export async function pack(storage: FileSystemDirectoryHandle, names: string[], folder: string, observe: Observe): Promise<File> {
  const name = `${folder}.zip`
  const sizes = await Promise.all(names.map(async n => (await (await storage.getFileHandle(n)).getFile()).size))
  const total = sizes.reduce((sum, size) => sum + size, 0)
  let packing = ''
  async function* entries() {
    for (const entry of names) {
      packing = entry
      yield { name: `${folder}/${entry}`, input: await (await storage.getFileHandle(entry)).getFile() }
      await storage.removeEntry(entry)
    }
  }
  const writer = await SyncWriter.open(storage, name)
  const reader = makeZip(entries()).getReader()
  let done = 0
  let told = 0
  try {
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      writer.write(chunk.value)
      done += chunk.value.length
      if (done - told < total / 50) continue
      told = done
      const stop = await observe({ progress: { stage: 'write', done: Math.min(done, total), total, unit: 'bytes', detail: `packing ${packing}` } })
      if (stop) throw new Failure('cancelled', 'Cancelled; nothing was written.')
    }
    writer.close()
  } catch (error) {
    writer.drop()
    await reader.cancel().catch(() => {})
    throw error
  }
  return (await storage.getFileHandle(name)).getFile()
}

/** The unpacked files and the zip lie side by side at worst, for a model of one shard. */
async function refuseWithoutRoom(bytes: number): Promise<void> {
  const { quota, usage } = await navigator.storage.estimate()
  if (quota === undefined) return
  const free = quota - (usage ?? 0)
  const needed = 2 * bytes + SPARE_BYTES
  if (free >= needed) return
  const gb = (n: number) => `${(n / 1e9).toFixed(1)} GB`
  throw new Failure('limit', `This browser gives the page ${gb(free)} of disk and packing the zip needs ${gb(needed)}. Free disk space, or use a browser that writes into a folder (Chrome or Edge).`)
}

async function orUndo<T>(work: () => Promise<T>, undo: () => Promise<void>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    await undo().catch(() => {})
    throw error
  }
}

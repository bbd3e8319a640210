import { makeZip } from 'client-zip'
import { cancelled, Failure } from './errors'
import { jobFolder, removeJob } from './jobs'
import type { Calls } from './messages'
import { meteredFolder, type Moved } from './meter'
import type { Observe, WasmEngine } from './protocol/engine'
import type { OutputFolder } from './protocol/files'
import type { WriteReport } from './protocol/output'
import { speaking } from './speaking'
import { DirectoryFolder, PrivateFolder, SingleFile, SyncWriter } from './sink'
import { freeSpace, gigabytes, SPARE_BYTES } from './space'

/** Writes a model where the user asked, and leaves nothing behind where that fails. */
export async function writeTo(
  engine: WasmEngine,
  [plan, options, target]: Calls['write']['args'],
  observe: Observe,
  moved: () => Moved = () => ({ read: 0, written: 0 }),
): Promise<WriteReport> {
  const write = (folder: OutputFolder) =>
    orUndo(
      () => engine.write(plan, options, meteredFolder(speaking(folder), moved), observe),
      () => folder.abort(),
    )
  if (target.kind === 'directory') return write(new DirectoryFolder(target.parent, target.folder))
  if (target.kind === 'file') return write(new SingleFile(target.file))
  await refuseWithoutRoom(target.needed_bytes)
  return orUndo(
    async () => write(new PrivateFolder(await jobFolder(target.job))),
    () => removeJob(target.job),
  )
}

/** The files of a job as one that can be downloaded: a single file is that already. */
export async function packJob(job: string, name: string, observe: Observe): Promise<File> {
  const storage = await jobFolder(job)
  return orUndo(
    async () => {
      const names: string[] = []
      for await (const entry of storage.keys()) names.push(entry)
      const [only] = names
      if (names.length === 1 && only !== undefined) return (await storage.getFileHandle(only)).getFile()
      const largest = Math.max(...(await sizesOf(storage, names)))
      await refuseWithoutRoom(largest + SPARE_BYTES)
      return pack(storage, names.sort(), name, observe)
    },
    () => removeJob(job),
  )
}

/** One store-only zip of the files, streamed; each file is removed as soon as the zip holds it. */
export async function pack(
  storage: FileSystemDirectoryHandle,
  names: string[],
  folder: string,
  observe: Observe,
): Promise<File> {
  const name = `${folder}.zip`
  const total = (await sizesOf(storage, names)).reduce((sum, size) => sum + size, 0)
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
      const stop = await observe({
        progress: { stage: 'write', done: Math.min(done, total), total, unit: 'bytes', detail: `packing ${packing}` },
      })
      if (stop) throw cancelled()
    }
    writer.close()
  } catch (error) {
    writer.drop()
    await reader.cancel().catch(() => {})
    throw error
  }
  return (await storage.getFileHandle(name)).getFile()
}

async function sizesOf(storage: FileSystemDirectoryHandle, names: string[]): Promise<number[]> {
  return Promise.all(names.map(async name => (await (await storage.getFileHandle(name)).getFile()).size))
}

async function refuseWithoutRoom(needed: number): Promise<void> {
  const free = await freeSpace()
  if (free === null || free >= needed) return
  throw new Failure(
    'limit',
    `This browser gives the page ${gigabytes(free)} of disk and the model needs ${gigabytes(needed)} there. Free disk space, or use a browser that writes into a folder (Chrome or Edge).`,
  )
}

async function orUndo<T>(work: () => Promise<T>, undo: () => Promise<void>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    await undo().catch(() => {})
    throw error
  }
}

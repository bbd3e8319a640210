/**
 * Folders of the browser's private storage, one for each model being written or fetched. Who makes one
 * holds a lock on it, so that a page that starts can remove what a closed one left.
 */

const ROOT = 'laminate'

export function newJob(): string {
  const job = `${ROOT}-${crypto.randomUUID()}`
  // Held for the page's life: the promise never settles.
  void navigator.locks?.request(job, () => new Promise(() => {}))
  return job
}

export async function jobFolder(job: string): Promise<FileSystemDirectoryHandle> {
  return (await rootFolder()).getDirectoryHandle(job, { create: true })
}

/** The same, but not made where it is not there. */
export async function findJob(job: string): Promise<FileSystemDirectoryHandle> {
  return (await rootFolder()).getDirectoryHandle(job)
}

export async function fileIn(folder: FileSystemDirectoryHandle, name: string): Promise<File> {
  return (await folder.getFileHandle(name)).getFile()
}

export async function removeJob(job: string): Promise<void> {
  const root = await rootFolder()
  // A worker that was ended in the middle of writing holds its file for a moment longer.
  for (let attempt = 0; attempt < 10; attempt++) {
    const refused = await root.removeEntry(job, { recursive: true }).then(
      () => null,
      (error: DOMException) => error,
    )
    if (refused?.name !== 'NoModificationAllowedError') return
    await new Promise(resolve => setTimeout(resolve, 100))
  }
}

/** Removes the folders that no open page holds. */
export async function sweepJobs(): Promise<void> {
  if (!navigator.storage?.getDirectory || !navigator.locks) return
  const { held } = await navigator.locks.query()
  const kept = new Set((held ?? []).map(lock => lock.name))
  const root = await rootFolder()
  const found: string[] = []
  for await (const name of root.keys()) found.push(name)
  for (const name of found) if (!kept.has(name)) await removeJob(name)
}

async function rootFolder(): Promise<FileSystemDirectoryHandle> {
  const storage = await navigator.storage.getDirectory()
  return storage.getDirectoryHandle(ROOT, { create: true })
}

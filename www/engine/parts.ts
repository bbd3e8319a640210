import { Failure } from './errors'
import type { PartStore } from './protocol/files'
import { SyncWriter } from './sink'

/** Where finished layers of a run are kept in the browser's private storage: one place, as one run goes on at a time. */
export const KEPT = 'laminate-kept'

/** Ending of a part that is being written. */
const UNFINISHED = '.unfinished'

type Movable = FileSystemFileHandle & { move?(name: string): Promise<void> }

/** Parts of what a run has finished, as files of the private storage; a part has its name once it is whole. */
export class PrivateParts implements PartStore {
  private writer: SyncWriter | null = null
  private open = ''

  /** `folder` is asked for when it is needed first. */
  constructor(private readonly folder: () => Promise<FileSystemDirectoryHandle>) {}

  async create(name: string): Promise<void> {
    this.writer?.drop()
    this.open = name
    this.writer = await this.said(patiently(async () => SyncWriter.open(await this.folder(), name + UNFINISHED)))
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.said(Promise.resolve().then(() => this.writer?.write(bytes)))
  }

  async close(): Promise<void> {
    const { writer, open } = this
    this.writer = null
    await this.said(
      (async () => {
        writer?.close()
        const folder = await this.folder()
        const file: Movable = await folder.getFileHandle(open + UNFINISHED)
        if (file.move) return file.move(open)
        // The checksum at its end tells a copy that was not finished from a part.
        const whole = await SyncWriter.open(folder, open)
        whole.write(new Uint8Array(await (await file.getFile()).arrayBuffer()))
        whole.close()
        await folder.removeEntry(file.name)
      })(),
    )
  }

  async names(): Promise<string[]> {
    const found: string[] = []
    for await (const name of (await this.folder()).keys()) if (!name.endsWith(UNFINISHED)) found.push(name)
    return found
  }

  async size(name: string): Promise<number> {
    return (await this.file(name)).size
  }

  async read(name: string, offset: number, length: number): Promise<Uint8Array> {
    return new Uint8Array(await (await this.file(name)).slice(offset, offset + length).arrayBuffer())
  }

  async remove(name: string): Promise<void> {
    await (await this.folder()).removeEntry(name).catch((refusal: DOMException) => {
      if (refusal.name !== 'NotFoundError') throw refused(refusal)
    })
  }

  /** Lets go of a part that was begun; what lies there of it is overwritten by the next. */
  end(): void {
    this.writer?.drop()
    this.writer = null
  }

  private async file(name: string): Promise<File> {
    return this.said(
      this.folder()
        .then(folder => folder.getFileHandle(name))
        .then(handle => handle.getFile()),
    )
  }

  private async said<T>(work: Promise<T>): Promise<T> {
    try {
      return await work
    } catch (thrown) {
      throw thrown instanceof DOMException ? refused(thrown) : thrown
    }
  }
}

/** A clause that follows "because". */
function refused(refusal: DOMException): Failure {
  if (refusal.name === 'QuotaExceededError') return new Failure('limit', "the disk or this browser's storage is full")
  return new Failure('source', `the browser's storage refused (${refusal.message || refusal.name})`)
}

/** The store of the page's runs; null where the browser has none. `anew` drops what an earlier run left. */
export async function openKept(anew: boolean): Promise<PrivateParts | null> {
  try {
    if (anew) await forgetKept()
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle(KEPT, { create: true })
    return new PrivateParts(async () => folder)
  } catch {
    return null
  }
}

/** Whether this browser gives the page a private storage at all: some windows and settings do not. */
export async function hasStorage(): Promise<boolean> {
  try {
    await navigator.storage.getDirectory()
    return true
  } catch {
    return false
  }
}

/** Removes everything that is kept. */
export async function forgetKept(): Promise<void> {
  const root = await navigator.storage.getDirectory()
  await patiently(() => root.removeEntry(KEPT, { recursive: true })).catch((refusal: DOMException) => {
    if (refusal.name !== 'NotFoundError') throw refusal
  })
}

/** Layers that are kept, by the deepest states that are. */
export async function keptLayers(): Promise<number> {
  try {
    let deepest = 0
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle(KEPT)
    for await (const name of folder.keys()) deepest = Math.max(deepest, Number(/^states-(\d+)$/.exec(name)?.[1] ?? 0))
    return deepest
  } catch {
    return 0
  }
}

/** Bytes that are kept. */
export async function keptBytes(): Promise<number> {
  try {
    let sum = 0
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle(KEPT)
    for await (const handle of folder.values())
      if (handle.kind === 'file') sum += (await (handle as FileSystemFileHandle).getFile()).size
    return sum
  } catch {
    return 0
  }
}

/** A worker that was ended in the middle of writing holds its file for a moment longer. */
async function patiently<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work()
    } catch (thrown) {
      if (attempt >= 20 || !(thrown instanceof DOMException) || thrown.name !== 'NoModificationAllowedError')
        throw thrown
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  }
}

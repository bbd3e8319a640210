import { Failure } from './errors'
import type { OutputFolder } from './protocol/files'

/** The part of `FileSystemSyncAccessHandle` used here; the DOM library leaves it to workers. */
interface SyncHandle {
  write(bytes: Uint8Array, options: { at: number }): number
  truncate(size: number): void
  flush(): void
  close(): void
}

type Movable = FileSystemFileHandle & { move?(name: string): Promise<void> }

/**
 * Files whose access handle has been asked for. Chromium forgets the question where nothing else refers to the file: the
 * answer then never comes, and the page waits for good.
 */
const asked = new Set<FileSystemFileHandle>()

async function accessTo(file: FileSystemFileHandle): Promise<SyncHandle> {
  asked.add(file)
  try {
    return await (file as unknown as { createSyncAccessHandle(): Promise<SyncHandle> }).createSyncAccessHandle()
  } finally {
    asked.delete(file)
  }
}

/** Appends to one file of the private storage; no swap file, unlike `createWritable`. */
export class SyncWriter {
  private at = 0
  private constructor(private readonly handle: SyncHandle) {}

  static async open(folder: FileSystemDirectoryHandle, name: string): Promise<SyncWriter> {
    const handle = await accessTo(await folder.getFileHandle(name, { create: true }))
    handle.truncate(0)
    return new SyncWriter(handle)
  }

  write(bytes: Uint8Array): void {
    const written = this.handle.write(bytes, { at: this.at })
    this.at += written
    if (written !== bytes.length) throw new DOMException('short write', 'QuotaExceededError')
  }

  close(): void {
    this.handle.flush()
    this.handle.close()
  }

  /** Lets go of the file without caring what is in it. */
  drop(): void {
    this.handle.close()
  }
}

/** What both sinks share: looking at files that are closed. */
abstract class Folder {
  protected closed: string[] = []
  constructor(protected readonly folder: FileSystemDirectoryHandle) {}

  /** The name under which a finished file lies before `commit`. */
  protected stored(name: string): string {
    return name
  }

  protected async file(name: string): Promise<File> {
    const handle = await this.folder.getFileHandle(this.stored(name))
    return handle.getFile()
  }

  async size(name: string): Promise<number> {
    return (await this.file(name)).size
  }

  async read(name: string, offset: number, length: number): Promise<Uint8Array> {
    const file = await this.file(name)
    return new Uint8Array(await file.slice(offset, offset + length).arrayBuffer())
  }

  names(): string[] {
    return [...this.closed]
  }
}

/** The browser's private storage, in a folder of its own that the caller removes. */
export class PrivateFolder extends Folder implements OutputFolder {
  private writer: SyncWriter | null = null

  async create(name: string): Promise<void> {
    this.writer = await SyncWriter.open(this.folder, flat(name))
    this.closed.push(name)
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.writer?.write(bytes)
  }

  async close(): Promise<void> {
    this.writer?.close()
    this.writer = null
  }

  async commit(): Promise<void> {}

  async abort(): Promise<void> {
    this.writer?.drop()
    this.writer = null
  }
}

/**
 * A folder of the user's disk. Files are written as `name.part` and renamed by `commit`, `config.json`
 * last, so that a tab closed half-way leaves nothing that looks like a model.
 */
export class DirectoryFolder extends Folder implements OutputFolder {
  private writer: FileSystemWritableFileStream | null = null
  private committed = false

  constructor(
    private readonly parent: FileSystemDirectoryHandle,
    folder: FileSystemDirectoryHandle,
  ) {
    super(folder)
  }

  protected override stored(name: string): string {
    return this.committed ? name : `${name}.part`
  }

  async create(name: string): Promise<void> {
    const handle = await this.folder.getFileHandle(this.stored(flat(name)), { create: true })
    this.writer = await handle.createWritable()
    this.closed.push(name)
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.writer?.write(bytes as Uint8Array<ArrayBuffer>)
  }

  async close(): Promise<void> {
    await this.writer?.close()
    this.writer = null
  }

  async commit(): Promise<void> {
    const last = (name: string) => Number(name === 'config.json')
    for (const name of [...this.closed].sort((a, b) => last(a) - last(b))) await this.rename(`${name}.part`, name)
    this.committed = true
  }

  async abort(): Promise<void> {
    await this.writer?.abort().catch(() => {})
    this.writer = null
    await this.parent.removeEntry(this.folder.name, { recursive: true })
  }

  /** Not every browser can rename a file outside its private storage; the others copy, whole or not at all. */
  private async rename(from: string, to: string): Promise<void> {
    const handle = (await this.folder.getFileHandle(from)) as Movable
    try {
      if (handle.move) return await handle.move(to)
    } catch {
      // Refused here: copied below.
    }
    const target = await (await this.folder.getFileHandle(to, { create: true })).createWritable()
    await (await handle.getFile()).stream().pipeTo(target)
    await this.folder.removeEntry(from)
  }
}

/**
 * One file where the user wants it. The browser writes beside it and puts it in place when it is closed,
 * whole or not at all, and shows what it wrote only then: so it has its name before it has been read back,
 * and loses it again where that fails. A folder does better, and is offered beside this.
 */
export class SingleFile implements OutputFolder {
  private writer: FileSystemWritableFileStream | null = null
  private name: string | null = null
  private closed = false

  constructor(private readonly handle: FileSystemFileHandle) {}

  async create(name: string): Promise<void> {
    if (this.name !== null)
      throw new Failure(
        'usage',
        `The model needs a second file, ${name}. Write it into a folder, or allow larger files.`,
      )
    this.name = flat(name)
    this.writer = await this.handle.createWritable()
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.writer?.write(bytes as Uint8Array<ArrayBuffer>)
  }

  async close(): Promise<void> {
    await this.writer?.close()
    this.writer = null
    this.closed = true
  }

  async size(): Promise<number> {
    return (await this.handle.getFile()).size
  }

  async read(_name: string, offset: number, length: number): Promise<Uint8Array> {
    return new Uint8Array(await (await this.handle.getFile()).slice(offset, offset + length).arrayBuffer())
  }

  async commit(): Promise<void> {}

  async abort(): Promise<void> {
    await this.writer?.abort().catch(() => {})
    this.writer = null
    if (this.closed || (await this.size()) === 0) await this.remove()
  }

  /** The picker makes an empty file of a new name; a browser that cannot remove it again leaves that. */
  private async remove(): Promise<void> {
    const handle = this.handle as FileSystemFileHandle & { remove?(): Promise<void> }
    if (handle.remove) await handle.remove()
    else await (await this.handle.createWritable()).close()
  }
}

/** A new, empty folder: `name`, or `name-2` and so on where that is taken. */
export async function newFolder(parent: FileSystemDirectoryHandle, name: string): Promise<FileSystemDirectoryHandle> {
  for (let attempt = 1; attempt < 100; attempt++) {
    const candidate = attempt === 1 ? name : `${name}-${attempt}`
    if (!(await exists(parent, candidate))) return parent.getDirectoryHandle(candidate, { create: true })
  }
  throw new Failure(
    'source',
    `The folder "${parent.name}" already holds 99 versions of ${name}. Choose another folder.`,
  )
}

async function exists(parent: FileSystemDirectoryHandle, name: string): Promise<boolean> {
  for await (const key of parent.keys()) if (key === name) return true
  return false
}

function flat(name: string): string {
  if (name.includes('/') || name === '' || name.startsWith('.')) {
    throw new Failure('usage', `"${name}" cannot be written: a model's files lie side by side in one folder.`)
  }
  return name
}

import { Failure } from './errors'
import type { LocalFile, OpenedFile } from './messages'
import type { ByteSource } from './protocol/files'

/** More entries than any model folder has; a dropped home directory should not be walked for minutes. */
const MAX_FILES = 5_000

/** What the user opened, on disk or on a server: the folder's name where there was one. */
export interface Opened {
  folder: string | undefined
  files: OpenedFile[]
  /** By which the browser can open it again, where it has such: the folder, or each file. */
  handles?: FileSystemHandle[]
}

/** Range reads of a `File`, in the worker. The file itself stays on disk. */
export class FileSource implements ByteSource {
  readonly size: number
  constructor(
    readonly name: string,
    private readonly file: Blob,
  ) {
    this.size = file.size
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    if (!(offset >= 0) || !(length >= 0) || offset + length > this.size) {
      throw new Failure(
        'source',
        `${this.name}: bytes ${offset} to ${offset + length} were asked of a file of ${this.size} bytes. It is cut short; get it again.`,
      )
    }
    try {
      return new Uint8Array(await this.file.slice(offset, offset + length).arrayBuffer())
    } catch {
      throw new Failure('source', `${this.name} changed or vanished while it was being read. Open the model again.`)
    }
  }
}

/** From an `<input type=file>`, with or without `webkitdirectory`. */
export function fromFileList(list: Iterable<File>): Opened {
  const files = [...list].map(file => ({ name: file.webkitRelativePath || file.name, file }))
  return withoutCommonFolder(files)
}

/** From a drop. The entries must be taken before the event ends; they are walked afterwards. */
export function fromDrop(transfer: DataTransfer): Promise<Opened> {
  const entries = [...transfer.items]
    .filter(item => item.kind === 'file')
    .map(item => item.webkitGetAsEntry?.() ?? item.getAsFile())
    .filter(entry => entry !== null)
  const handles = Promise.all(
    [...transfer.items].filter(item => item.kind === 'file').map(async item => item.getAsFileSystemHandle?.()),
  )
  return walkEntries(entries)
    .then(withoutCommonFolder)
    .then(async opened => {
      const held = (await handles.catch(() => [])).flatMap(handle => handle ?? [])
      return held.length > 0 ? { ...opened, handles: held } : opened
    })
}

/** From `showDirectoryPicker`. */
export async function fromDirectory(folder: FileSystemDirectoryHandle): Promise<Opened> {
  const files: LocalFile[] = []
  const walk = async (directory: FileSystemDirectoryHandle, prefix: string): Promise<void> => {
    for await (const [name, handle] of directory.entries()) {
      if (isHidden(name)) continue
      if (handle.kind === 'directory') await walk(handle as FileSystemDirectoryHandle, `${prefix}${name}/`)
      else files.push({ name: prefix + name, file: await (handle as FileSystemFileHandle).getFile() })
      refuseTooMany(files.length)
    }
  }
  await walk(folder, '')
  return { folder: folder.name, files: files.sort(byName), handles: [folder] }
}

async function walkEntries(entries: (FileSystemEntry | File)[]): Promise<LocalFile[]> {
  const files: LocalFile[] = []
  const walk = async (entry: FileSystemEntry | File): Promise<void> => {
    refuseTooMany(files.length)
    if (entry instanceof File) files.push({ name: entry.name, file: entry })
    else if (isHidden(entry.name)) return
    else if (entry.isFile) {
      const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject))
      files.push({ name: entry.fullPath.replace(/^\//, ''), file })
    } else for (const child of await children(entry as FileSystemDirectoryEntry)) await walk(child)
  }
  for (const entry of entries) await walk(entry)
  return files
}

/** `readEntries` hands out at most 100 at a time, and an empty list at the end. */
async function children(directory: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = directory.createReader()
  const all: FileSystemEntry[] = []
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject))
    if (some.length === 0) return all
    all.push(...some)
    refuseTooMany(all.length)
  }
}

/** `model/config.json`, `model/tokenizer.json` -> folder `model`, names without it. */
export function withoutCommonFolder(files: LocalFile[]): Opened {
  const visible = files.filter(({ name }) => !name.split('/').some(isHidden)).sort(byName)
  refuseTooMany(visible.length)
  const first = visible[0]?.name.split('/')[0]
  const shared = first !== undefined && visible.every(({ name }) => name.startsWith(`${first}/`))
  if (!shared) return { folder: undefined, files: visible }
  return { folder: first, files: visible.map(({ name, file }) => ({ name: name.slice(first.length + 1), file })) }
}

export const SHARD = /^(.*)-(\d{5})-of-(\d{5})\.(gguf|safetensors)$/i

/** The names of all parts of a split file, from any one of them; of an unsplit one its own. */
export function shardNames(name: string): string[] {
  const match = SHARD.exec(name)
  if (!match) return [name]
  const [, stem, , total = '', extension] = match
  return Array.from(
    { length: Number(total) },
    (_, i) => `${stem}-${String(i + 1).padStart(5, '0')}-of-${total}.${extension}`,
  )
}

/**
 * Refuses files that were chosen one by one where they are some of the parts of a model: what is opened next takes
 * their place, so that a part cannot be added. Of a folder the engine says what it lacks.
 */
export function refuseSomeParts({ folder, files }: Opened): void {
  const names = files.map(({ name }) => name)
  const parts = shardNames(names.find(name => SHARD.test(name)) ?? '')
  const here = parts.filter(name => names.includes(name)).length
  if (folder !== undefined || here === 0 || here === parts.length) return
  const all = parts.length === 2 ? 'both' : `all ${parts.length}`
  throw new Failure(
    'source',
    `${here === 1 ? 'This is one part' : `These are ${here} parts`} of a model in ${parts.length}. Choose or drop ${all} together: ${parts[0]} to ${parts.at(-1)}${/gguf$/i.test(parts[0]!) ? '' : ', with the files beside them'}.`,
  )
}

function refuseTooMany(count: number): void {
  if (count > MAX_FILES)
    throw new Failure('usage', `That folder holds more than ${MAX_FILES} files. Open the folder of one model.`)
}

function isHidden(name: string): boolean {
  return name.startsWith('.')
}

function byName(a: LocalFile, b: LocalFile): number {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0
}

/** A directory of the browser's file system in memory: the part that the sinks use. */
export class MemoryDirectory {
  private entries = new Map<string, MemoryDirectory | Bytes>()
  movable = true
  /** Refuses to be written, as a read-only folder does. */
  locked = false
  /** Bytes that may still be written through a synchronous handle anywhere below. */
  room = Infinity

  constructor(
    readonly name: string,
    private readonly root?: MemoryDirectory,
  ) {}

  names(): string[] {
    return [...this.entries.keys()]
  }

  directory(name: string): MemoryDirectory {
    return this.entries.get(name) as MemoryDirectory
  }

  get handle(): FileSystemDirectoryHandle {
    return this as unknown as FileSystemDirectoryHandle
  }

  async *keys() {
    yield* this.names()
  }

  async getDirectoryHandle(name: string): Promise<MemoryDirectory> {
    const found = this.entries.get(name) ?? new MemoryDirectory(name, this.root ?? this)
    this.entries.set(name, found)
    return found as MemoryDirectory
  }

  async removeEntry(name: string): Promise<void> {
    if (!this.entries.delete(name)) throw new DOMException(name, 'NotFoundError')
  }

  async getFileHandle(name: string, options?: { create: boolean }) {
    if (!this.entries.has(name)) {
      if (!options?.create) throw new DOMException(name, 'NotFoundError')
      this.entries.set(name, { bytes: [] })
    }
    const file = this.entries.get(name) as Bytes
    const root = this.root ?? this
    return {
      getFile: async () => new File(file.bytes as BlobPart[], name),
      remove: async () => {
        this.entries.delete(name)
      },
      createWritable: async () => {
        if (this.locked) throw new DOMException(name, 'NoModificationAllowedError')
        return writable(file)
      },
      createSyncAccessHandle: async () => ({
        truncate: () => {
          file.bytes = []
        },
        write: (bytes: Uint8Array) => {
          const fits = Math.min(bytes.length, root.room)
          root.room -= fits
          file.bytes.push(bytes.slice(0, fits))
          return fits
        },
        flush() {},
        close() {},
      }),
      move: this.movable
        ? async (to: string) => {
            this.entries.delete(name)
            this.entries.set(to, file)
          }
        : undefined,
    }
  }
}

interface Bytes {
  bytes: Uint8Array[]
}

/** As in a browser, what is written shows only once the stream is closed. */
function writable(file: Bytes) {
  const pieces: Uint8Array[] = []
  const stream = new WritableStream<Uint8Array>({
    write: chunk => {
      pieces.push(chunk.slice())
    },
    close: () => {
      file.bytes = pieces
    },
  })
  return Object.assign(stream, {
    write: async (chunk: Uint8Array) => {
      pieces.push(chunk.slice())
    },
    close: async () => {
      file.bytes = pieces
    },
    abort: async () => {},
  })
}

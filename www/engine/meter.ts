import type { ByteSource, OutputFolder } from './protocol/files'

/** Bytes that went through a call: what was read of the model, and what was written of the result. */
export interface Moved {
  read: number
  written: number
}

/** Counts what sources hand out. */
export function metered(source: ByteSource, moved: () => Moved): ByteSource {
  return {
    name: source.name,
    size: source.size,
    read: (offset, length) => {
      const bytes = source.read(offset, length)
      // A failure is for who awaits the bytes, if anybody does: the engine reads ahead.
      bytes.then(
        ({ length }) => (moved().read += length),
        () => {},
      )
      return bytes
    },
  }
}

/** Counts what a folder takes. */
export function meteredFolder(folder: OutputFolder, moved: () => Moved): OutputFolder {
  return {
    create: name => folder.create(name),
    write: async bytes => {
      await folder.write(bytes)
      moved().written += bytes.length
    },
    close: () => folder.close(),
    size: name => folder.size(name),
    read: (name, offset, length) => folder.read(name, offset, length),
    commit: () => folder.commit(),
    abort: () => folder.abort(),
  }
}

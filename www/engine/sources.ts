import { Failure } from './errors'
import type { LocalFile, OpenedFile, RemoteFile } from './messages'
import type { Observe } from './protocol/engine'
import type { ByteSource } from './protocol/files'
import { FileSource } from './source'

export interface OpenedSources {
  sources: ByteSource[]
  /** Gives up what is kept in the private storage for them. */
  release(): Promise<void>
}

/** What the engine reads, for files on disk and on servers. */
export async function sourcesOf(
  files: OpenedFile[],
  signal: () => AbortSignal,
  observe: Observe,
): Promise<OpenedSources> {
  const local = files
    .filter((file): file is LocalFile => 'file' in file)
    .map(({ name, file }) => new FileSource(name, file))
  const remote = files.filter((file): file is RemoteFile => 'url' in file)
  if (remote.length === 0) return { sources: local, release: async () => {} }
  const [{ openRemote }, { PATIENCE }] = await Promise.all([import('./remote'), import('./fetching')]).catch(() => {
    throw new Failure('source', 'A part of this page could not be loaded. Reload the page.')
  })
  const { sources, release } = await openRemote(remote, { signal, patience: PATIENCE }, observe)
  return { sources: [...local, ...sources], release }
}

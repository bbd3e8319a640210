import { fromBrowser } from './errors'
import type { OutputFolder } from './protocol/files'

/**
 * The same folder with the browser's refusals as sentences that name the file: the engine passes on what
 * it is given, and to it one `DOMException` looks like another.
 */
export function speaking(folder: OutputFolder): OutputFolder {
  let open = 'The folder'
  const said = async <T>(what: string, work: Promise<T>): Promise<T> => {
    try {
      return await work
    } catch (thrown) {
      throw thrown instanceof DOMException ? fromBrowser(thrown, what) : thrown
    }
  }
  return {
    create: name => said((open = name), folder.create(name)),
    write: bytes => said(open, folder.write(bytes)),
    close: () => said(open, folder.close()),
    size: name => said(name, folder.size(name)),
    read: (name, offset, length) => said(name, folder.read(name, offset, length)),
    commit: () => said('The folder', folder.commit()),
    abort: () => said('The folder', folder.abort()),
  }
}

import { Failure } from '../engine/errors'
import type { LocalFile } from '../engine/messages'
import { fromDirectory, withoutCommonFolder, type Opened } from '../engine/source'
import { isSameModel, keptOrigin, type KeptOrigin } from './record'

/** Whether the page can open the model again by itself, by a click that the browser may want to see. */
export function canReopen(origin: KeptOrigin): boolean {
  return origin.kind === 'demo' || (origin.kind === 'remote' ? origin.complete : origin.handles !== null)
}

/** The model of a run that was kept, opened again. Call it from a click: the browser may ask for permission. */
export async function reopen(origin: KeptOrigin): Promise<'demo' | Opened> {
  if (origin.kind === 'demo') return 'demo'
  if (origin.kind === 'remote') return { folder: origin.folder, files: origin.files }
  const handles = origin.handles ?? []
  for (const handle of handles) await allow(handle)
  const opened = await fromHandles(handles).catch(() => {
    throw new Failure(
      'source',
      `${origin.folder ?? 'The model'} is not where it was. Open it again from its new place.`,
    )
  })
  if (handles.length === 0 || !isSameModel(origin, keptOrigin(opened))) {
    throw new Failure(
      'source',
      `${origin.folder ?? 'The model'} is not the one that it was: its files have changed. Open the model that you mean.`,
    )
  }
  return opened
}

async function fromHandles(handles: FileSystemHandle[]): Promise<Opened> {
  const [only] = handles
  if (handles.length === 1 && only?.kind === 'directory') return fromDirectory(only as FileSystemDirectoryHandle)
  const files: LocalFile[] = []
  for (const handle of handles) {
    if (handle.kind === 'file')
      files.push({ name: handle.name, file: await (handle as FileSystemFileHandle).getFile() })
  }
  return { ...withoutCommonFolder(files), handles }
}

type Asking = FileSystemHandle & {
  queryPermission?(mode: { mode: 'read' }): Promise<PermissionState>
  requestPermission?(mode: { mode: 'read' }): Promise<PermissionState>
}

async function allow(handle: Asking): Promise<void> {
  if (!handle.queryPermission || (await handle.queryPermission({ mode: 'read' })) === 'granted') return
  if ((await handle.requestPermission?.({ mode: 'read' })) === 'granted') return
  throw new Failure(
    'source',
    `"${handle.name}" may not be read: the browser was not allowed to. Allow it when asked, or open the model again.`,
  )
}

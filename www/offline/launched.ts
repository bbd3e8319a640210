import type { Actions } from '../app/actions'
import { fromFileList } from '../engine/source'
import { openAnything } from '../app/incoming'

/** How Chromium hands files to an installed page; not in the DOM library. */
interface LaunchQueue {
  setConsumer(consume: (launch: { files?: readonly FileSystemFileHandle[] }) => void): void
}

/** Opens the files that the system opens with the installed page, as a drop on it would. */
export function openLaunched(actions: Actions): void {
  const { launchQueue } = window as { launchQueue?: LaunchQueue }
  launchQueue?.setConsumer(async ({ files = [] }) => {
    if (files.length === 0) return
    try {
      await openAnything(actions, fromFileList(await Promise.all(files.map(file => file.getFile()))))
    } catch (thrown) {
      actions.report(thrown, null)
    }
  })
}

import { fromFileList, type Opened } from '../engine/source'

/** How Chromium hands files to an installed page; not in the DOM library. */
interface LaunchQueue {
  setConsumer(consume: (launch: { files?: readonly FileSystemFileHandle[] }) => void): void
}

/** Takes the files that the system opens with the installed page, as a drop on it would be taken. */
export function onLaunchedWith(take: (opened: Promise<Opened>) => void): void {
  const { launchQueue } = window as { launchQueue?: LaunchQueue }
  launchQueue?.setConsumer(({ files = [] }) => {
    if (files.length > 0) take(Promise.all(files.map(file => file.getFile())).then(fromFileList))
  })
}

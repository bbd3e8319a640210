import type { Page } from 'playwright-core'
import { KEPT } from '../../../www/engine/parts'

/** Every file below the page's private storage, by path, but those of the run that is kept for a reload, and finished layers that wait until they are written. */
export async function privateFiles(page: Page): Promise<string[]> {
  return (await allFiles(page)).filter(
    path => !path.startsWith(`${KEPT}/`) && !/\/scratch-\d+(\.unfinished)?$/.test(path),
  )
}

/** The files of the run that is kept, without their folder. */
export async function keptFiles(page: Page): Promise<string[]> {
  return (await allFiles(page)).flatMap(path => (path.startsWith(`${KEPT}/`) ? [path.slice(KEPT.length + 1)] : []))
}

function allFiles(page: Page): Promise<string[]> {
  return page.evaluate(async () => {
    const found: string[] = []
    const walk = async (folder: FileSystemDirectoryHandle, prefix: string): Promise<void> => {
      for await (const [name, handle] of folder.entries()) {
        if (handle.kind === 'directory') await walk(handle as FileSystemDirectoryHandle, `${prefix}${name}/`)
        else found.push(prefix + name)
      }
    }
    await walk(await navigator.storage.getDirectory(), '')
    return found.sort()
  })
}

/** Lets `showDirectoryPicker` answer with a folder of the private storage: a real picker needs a person. */
export function pickerAnswers(page: Page, folder: string): Promise<void> {
  return page.evaluate(name => {
    window.showDirectoryPicker = async () =>
      (await navigator.storage.getDirectory()).getDirectoryHandle(name, { create: true })
  }, folder)
}

/** The same for `showSaveFilePicker`, with a file there. */
export function savePickerAnswers(page: Page, file: string): Promise<void> {
  return page.evaluate(name => {
    window.showSaveFilePicker = async () =>
      (await navigator.storage.getDirectory()).getFileHandle(name, { create: true })
  }, file)
}

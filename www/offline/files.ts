import type { PageFile } from './messages'

/** Where a file's content is kept: another content is another address, so that a version never finds another's. */
export function keptAt(file: PageFile, folder: string): string {
  return `${folder}${file.path}?${file.digest}`
}

/**
 * The file of the page that a request means, or null for anything else. A settings part (`?device=cpu`) and the
 * page's own name change nothing about which file that is; `#...` is never sent.
 */
export function fileFor(url: string, navigates: boolean, folder: string, files: readonly PageFile[]): PageFile | null {
  const { origin, pathname, search } = new URL(url)
  const address = origin + pathname
  if (!address.startsWith(folder)) return null
  const path = address.slice(folder.length)
  const page = path === '' || path === 'index.html'
  if (search !== '' && !(page && navigates)) return null
  return files.find(file => file.path === (page ? '' : path)) ?? null
}

/** Whether the server sent what this version was built with, and not what an earlier or a later one was. */
export async function isOf(file: PageFile, content: ArrayBuffer): Promise<boolean> {
  if (file.mentions) {
    const text = new TextDecoder().decode(content)
    return file.mentions.every(name => text.includes(name))
  }
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', content))
  return Array.from(hash, byte => byte.toString(16).padStart(2, '0'))
    .join('')
    .startsWith(file.digest)
}

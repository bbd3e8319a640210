/**
 * Keeps the page and the engine for use without a network, by the digest of their content: what a new version has
 * in common with the old one is not fetched again.
 *
 * A version answers only with its own files. A new one is fetched whole beside the one that runs, and waits until
 * no tab of the page is open, or until the only one that is asks for it: nothing is swapped under a run.
 *
 * It adds what a plain host does not send: the headers with which a browser lets threads share memory. A page has them when
 * it is loaded the next time after it was kept; nothing is loaded again for them.
 *
 * Downloads of results have a worker of their own (`download/service.ts`): its folder lies deeper, so the browser
 * asks it and not this one, and an update of the page cannot break off a download.
 */
import { fileFor, isOf, keptAt } from './files'
import { ISOLATING } from './isolation'
import type { FromKeeper, PageFile, ToKeeper } from './messages'

declare const PAGE_FILES: PageFile[]

/** The parts of `ServiceWorkerGlobalScope` used here; the DOM library leaves them out. */
interface Scope {
  registration: { scope: string }
  clients: {
    claim(): Promise<void>
    matchAll(options: { type: 'window'; includeUncontrolled: boolean }): Promise<readonly { url: string }[]>
  }
  skipWaiting(): Promise<void>
  addEventListener(
    type: 'install' | 'activate',
    listen: (event: { waitUntil(work: Promise<unknown>): void }) => void,
  ): void
  addEventListener(
    type: 'message',
    listen: (event: MessageEvent<ToKeeper> & { waitUntil(work: Promise<unknown>): void }) => void,
  ): void
  addEventListener(
    type: 'fetch',
    listen: (event: { request: Request; respondWith(answer: Promise<Response>): void }) => void,
  ): void
}

const scope = self as unknown as Scope
/** The files of this version, put here by the build. */
const files = PAGE_FILES
const folder = scope.registration.scope
/** By folder: several copies of the page may lie on one host. */
const open = () => caches.open(`laminate ${folder}`)

scope.addEventListener('install', event => event.waitUntil(keepAll()))
scope.addEventListener('activate', event => event.waitUntil(dropOthers().then(() => scope.clients.claim())))
scope.addEventListener('message', event => event.waitUntil(replace(event.ports[0])))
scope.addEventListener('fetch', event => {
  const { request } = event
  const file = request.method === 'GET' ? fileFor(request.url, request.mode === 'navigate', folder, files) : null
  if (file) event.respondWith(answer(request, file).then(isolated))
})

async function keepAll(): Promise<void> {
  const cache = await open()
  for (const file of files) {
    const address = keptAt(file, folder)
    if (!file.atOnce || (await cache.match(address))) continue
    // What has a digest in its name comes from the browser's own cache where the page has just loaded it.
    const response = await fetch(folder + file.path, file.path.startsWith('assets/') ? {} : { cache: 'no-cache' })
    if (!response.ok || !(await isOf(file, await response.clone().arrayBuffer())))
      throw new Error(`${file.path || 'the page'} is not of this version`)
    await cache.put(address, plain(response))
  }
}

/** The same answer as one of a page that shares nothing with other sites, so that its threads may share memory. */
function isolated(response: Response): Response {
  if (response.type === 'opaque' || response.type === 'opaqueredirect' || response.status === 0) return response
  const { status, statusText, body } = response
  const headers = new Headers(response.headers)
  for (const [name, value] of Object.entries(ISOLATING)) headers.set(name, value)
  headers.set('Cross-Origin-Resource-Policy', 'same-origin')
  return new Response(body, { status, statusText, headers })
}

/** A page may not be answered with what a redirection led to, though it be the same. */
function plain(response: Response): Response {
  return response.redirected ? new Response(response.body, { headers: response.headers }) : response
}

async function dropOthers(): Promise<void> {
  const cache = await open()
  const own = new Set(files.map(file => keptAt(file, folder)))
  for (const { url } of await cache.keys()) if (!own.has(url)) await cache.delete(url)
}

async function answer(request: Request, file: PageFile): Promise<Response> {
  const cache = await open()
  const address = keptAt(file, folder)
  const kept = await cache.match(address, { ignoreVary: true })
  if (kept) return kept
  const response = await fetch(request)
  if (response.ok && response.status === 200 && !file.mentions)
    await cache.put(address, response.clone()).catch(() => {})
  return response
}

async function replace(port: MessagePort | undefined): Promise<void> {
  const tabs = await scope.clients.matchAll({ type: 'window', includeUncontrolled: true })
  if (tabs.filter(({ url }) => url.startsWith(folder)).length <= 1) return scope.skipWaiting()
  port?.postMessage('others' satisfies FromKeeper)
}

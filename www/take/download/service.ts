/**
 * Streams a written model out of the private storage into the browser's downloads: a single file as it is,
 * several as one store-only zip that is made on the way and lies nowhere.
 *
 * A service worker, because only an answer to a request reaches the disk without being held. It answers
 * below its own folder, which holds no page, and so sees nothing else of the site.
 *
 * The files are complete and have been read back by the engine before it is asked for them. It sees each
 * byte leave, and can say so; whether the browser stored them all, no page can see.
 */
import { makeZip, predictLength } from 'client-zip'
import { findJob } from '../../engine/jobs'
import { ISOLATING } from '../../offline'
import type { FromService, ToService } from './messages'

/** The parts of `ServiceWorkerGlobalScope` used here; the DOM library leaves them out. */
interface Scope {
  registration: { scope: string }
  skipWaiting(): Promise<void>
  addEventListener(type: 'install', listen: (event: { waitUntil(work: Promise<unknown>): void }) => void): void
  addEventListener(type: 'message', listen: (event: MessageEvent<ToService>) => void): void
  addEventListener(
    type: 'fetch',
    listen: (event: { request: Request; respondWith(answer: Promise<Response>): void }) => void,
  ): void
}

const scope = self as unknown as Scope
/** Who wants to know how a job's download goes. */
const listeners = new Map<string, MessagePort>()

scope.addEventListener('install', event => event.waitUntil(scope.skipWaiting()))

// Pings need no answer: that they arrive keeps a browser from ending a worker it thinks idle.
scope.addEventListener('message', ({ data, ports: [port] }) => {
  if (data === 'ping' || !port) return
  const tell = (message: FromService) => port.postMessage(message)
  listeners.set(data.job, port)
  findJob(data.job).then(
    () => tell({ ready: scope.registration.scope }),
    () => tell({ ended: 'failed' }),
  )
})

scope.addEventListener('fetch', event => {
  const { pathname } = new URL(event.request.url)
  const [job, name, ...rest] = pathname.slice(new URL(scope.registration.scope).pathname.length).split('/')
  if (job && name && rest.length === 0) event.respondWith(answer(job, decodeURIComponent(name)))
})

async function answer(job: string, name: string): Promise<Response> {
  try {
    const files = await filesOf(job)
    const [only] = files
    const folder = name.replace(/\.zip$/, '')
    const entries = files.map(file => ({ name: `${folder}/${file.name}`, input: file }))
    const single = files.length === 1 && only !== undefined
    const length = single
      ? only.size
      : Number(predictLength(entries.map(({ name, input }) => ({ name, size: input.size }))))
    return new Response(watched(job, single ? only.stream() : makeZip(entries)), {
      headers: {
        'Content-Type': 'application/octet-stream',
        'Content-Length': String(length),
        'Content-Disposition': `attachment; filename*=UTF-8''${encodeURIComponent(name)}`,
        'X-Content-Type-Options': 'nosniff',
        // A page whose threads share memory takes no frame without it.
        'Cross-Origin-Embedder-Policy': ISOLATING['Cross-Origin-Embedder-Policy'],
      },
    })
  } catch {
    return new Response('This download is gone. Write the model again.', {
      status: 404,
      headers: { 'Content-Type': 'text/plain' },
    })
  }
}

async function filesOf(job: string): Promise<File[]> {
  const folder = await findJob(job)
  const files: File[] = []
  for await (const handle of folder.values())
    if (handle.kind === 'file') files.push(await (handle as FileSystemFileHandle).getFile())
  if (files.length === 0) throw new Error('nothing to give')
  return files.sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** The same bytes, pulled only as fast as the disk takes them, and told of. */
function watched(job: string, bytes: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
  const reader = bytes.getReader()
  const port = listeners.get(job)
  const tell = (message: FromService) => port?.postMessage(message)
  listeners.delete(job)
  let sent = 0
  let told = 0
  tell({ sent })
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const next = await reader.read()
          if (next.done) {
            controller.close()
            return tell({ ended: 'done' })
          }
          controller.enqueue(next.value)
          sent += next.value.length
          if (sent - told < 1e7) return
          told = sent
          tell({ sent })
        } catch (error) {
          controller.error(error)
          tell({ ended: 'failed' })
        }
      },
      async cancel(reason) {
        tell({ ended: 'stopped' })
        await reader.cancel(reason)
      },
    },
    { highWaterMark: 0 },
  )
}

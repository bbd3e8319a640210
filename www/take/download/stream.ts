import address from './service?worker&url'
import type { Ended, FromService, ToService } from './messages'

/** A worker that is idle for half a minute is ended, in some browsers in the middle of an answer. */
const PING_EVERY_MS = 5_000
/** Until the worker runs, and until the browser asks it. Then the model is packed in the storage instead. */
const BEGIN_WITHIN_MS = 5_000

export interface Streaming {
  ended: Promise<Ended>
}

/** The worker that streams downloads, started. It is told of nothing before there is something to download. */
export async function startService(): Promise<ServiceWorker> {
  const url = new URL(address, location.href)
  // The built worker is one file without imports; the development server's is a module.
  const type = import.meta.env.DEV ? 'module' : 'classic'
  const registered = navigator.serviceWorker.register(url, { type, scope: new URL('download/', url).href })
  return within(BEGIN_WITHIN_MS, registered.then(activated))
}

/** Hands a job to the browser's downloads as `name`. Resolves once the browser has begun to take it. */
export function handOver(
  service: ServiceWorker,
  job: string,
  name: string,
  sent: (bytes: number) => void,
): Promise<Streaming> {
  const { port1, port2 } = new MessageChannel()
  const say = (message: ToService, transfer: Transferable[] = []) => service.postMessage(message, transfer)
  const pings = setInterval(() => say('ping'), PING_EVERY_MS)
  const frame = document.createElement('iframe')
  let end: (how: Ended) => void = () => {}
  const ended = new Promise<Ended>(resolve => (end = resolve))
  void ended.then(() => {
    clearInterval(pings)
    port1.close()
    frame.remove()
  })
  const begun = new Promise<Streaming>((resolve, reject) => {
    port1.onmessage = ({ data }: MessageEvent<FromService>) => {
      if ('ready' in data) open(frame, `${data.ready}${job}/${encodeURIComponent(name)}`)
      else if ('sent' in data) {
        sent(data.sent)
        resolve({ ended })
      } else {
        end(data.ended)
        reject(new Error(data.ended))
      }
    }
  })
  say({ job }, [port2])
  return within(BEGIN_WITHIN_MS, begun).catch(error => {
    end('failed')
    throw error
  })
}

/** In a frame: an answer that is no download must not replace the page. A link's `download` would pass the worker by. */
function open(frame: HTMLIFrameElement, url: string): void {
  frame.hidden = true
  frame.src = url
  document.body.append(frame)
}

function activated({ installing, waiting, active }: ServiceWorkerRegistration): Promise<ServiceWorker> {
  const worker = installing ?? waiting ?? active
  if (!worker) return Promise.reject(new Error('no worker'))
  if (worker.state === 'activated') return Promise.resolve(worker)
  return new Promise((resolve, reject) => {
    worker.addEventListener('statechange', () => {
      if (worker.state === 'activated') resolve(worker)
      if (worker.state === 'redundant') reject(new Error('the worker was refused'))
    })
  })
}

function within<T>(ms: number, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('no answer in time')), ms)
    work.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

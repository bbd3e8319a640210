import { cancelled, deviceLost, Failure } from './errors'
import type { CallName, Calls, FromWorker, Port, Request, ToWorker } from './messages'
import type { Moved } from './meter'
import type { EngineEvent } from './protocol/events'

/** How long a cancelled call may take to stop before its worker is ended. */
const STOP_WITHIN_MS = 10_000

/** Calls that answer a stop with what they have so far, and not with an error. */
const PARTIAL: ReadonlySet<CallName> = new Set<CallName>(['compare', 'calibrationCurve', 'heal'])

export interface WorkerPort extends Port<ToWorker, FromWorker> {
  onerror: ((event: ErrorEvent) => void) | null
  terminate(): void
}

interface Pending {
  resolve(value: never): void
  reject(error: Failure): void
  observe: ((event: EngineEvent) => void) | undefined
}

/**
 * The engine as the page sees it: one promise a call, the `AbortSignal` first. The worker stops at the
 * next event; one that does not stop in time is ended, and the next call starts another.
 */
export class EngineClient {
  /** Grows whenever a worker is gone, and with it the model and maps it held. */
  generation = 0
  private worker: WorkerPort | null = null
  private pending = new Map<number, Pending>()
  private lastId = 0
  private held = false
  /** Told when a call that was asked to wait does. */
  onheld: () => void = () => {}
  /** Bytes that the call that was heard of last has moved. */
  moved: Moved = { read: 0, written: 0 }

  constructor(
    private readonly start: () => WorkerPort,
    private readonly stopWithinMs = STOP_WITHIN_MS,
  ) {}

  call<K extends CallName>(
    signal: AbortSignal | null,
    call: K,
    args: Calls[K]['args'],
    observe?: (event: EngineEvent) => void,
  ): Promise<Calls[K]['result']> {
    if (signal?.aborted) return Promise.reject(cancelled())
    const worker = this.running()
    const id = ++this.lastId
    return new Promise<Calls[K]['result']>((resolve, reject) => {
      let timer: ReturnType<typeof setTimeout> | undefined
      const stop = () => {
        worker.postMessage({ cancel: id })
        timer = setTimeout(() => this.lose(cancelled()), this.stopWithinMs)
      }
      const settle = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', stop)
        this.pending.delete(id)
      }
      this.pending.set(id, {
        // An answer that crossed the user's "stop" on its way is not what the user asked for any more.
        resolve: value => {
          settle()
          if (signal?.aborted && !PARTIAL.has(call)) reject(cancelled())
          else resolve(value)
        },
        reject: error => {
          settle()
          reject(error)
        },
        observe,
      })
      signal?.addEventListener('abort', stop)
      worker.postMessage({ id, call, args } as Request)
    })
  }

  /** Lets what runs wait before its next step, or go on. */
  hold(held: boolean): void {
    this.held = held
    this.worker?.postMessage({ hold: held })
  }

  /** Ends the worker, as after a lost device; the next call starts a new one. */
  restart(): void {
    this.lose(new Failure('cancelled', 'The engine was restarted.'))
  }

  private running(): WorkerPort {
    if (this.worker) return this.worker
    const worker = this.start()
    worker.onmessage = ({ data }) => this.receive(data)
    worker.onerror = event => {
      event.preventDefault?.()
      const why = event.message ? ` (${event.message})` : ''
      this.lose(new Failure('internal', `The engine stopped unexpectedly${why}. Run the step again; it starts afresh.`))
    }
    if (this.held) worker.postMessage({ hold: true })
    return (this.worker = worker)
  }

  private receive(message: FromWorker): void {
    if ('lost' in message) return this.lose(deviceLost(message.lost))
    if ('held' in message) return this.onheld()
    const pending = this.pending.get(message.id)
    if (!pending) return
    if ('event' in message) {
      if (message.moved) this.moved = message.moved
      pending.observe?.(message.event)
    } else if ('error' in message) {
      const failure = new Failure(message.error.kind, message.error.message)
      pending.reject(failure)
      // After a panic or a lost device nothing the module holds can be trusted.
      if (failure.kind === 'internal' || failure.kind === 'device') this.lose(failure)
    } else pending.resolve(message.result as never)
  }

  private lose(reason: Failure): void {
    this.worker?.terminate()
    this.worker = null
    this.generation++
    for (const pending of [...this.pending.values()]) pending.reject(reason)
  }
}

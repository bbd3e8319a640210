import { cancelled, Failure } from './errors'
import type { ErrorKind } from './protocol/error'

/** How long the network is waited for. Tests are less patient. */
export interface Patience {
  /** Attempts in a row that may fail without progress. */
  tries: number
  /** Before the second attempt; twice as long before each further one. */
  pauseMs: number
  /** A server that asks for a longer wait is not waited for. */
  longestPauseMs: number
  /** Without a byte for this long, a request is given up and made again. */
  stallMs: number
}

export const PATIENCE: Patience = { tries: 5, pauseMs: 500, longestPauseMs: 60_000, stallMs: 30_000 }

/** What a series of requests shares. */
export interface Net {
  /** The user's "stop", at the moment of asking: one source serves many calls. */
  signal(): AbortSignal | null
  patience: Patience
  /**
   * While a model is being looked up and opened: told of each further attempt. Nothing is lost then by giving up, so
   * that without a network nothing is tried again; in the middle of a run it may come back.
   */
  opening?: (name: string, attempt: number, of: number) => void
  /** What to do where there is no network and where a server cannot be reached, if nothing is read. */
  advice?: { offline: string; unreachable: string }
}

/** What to do where a model is read. */
const READING: NonNullable<Net['advice']> = {
  offline:
    'Connect it, then run the step again; models on your disk work without one, and the demo does once it has run.',
  unreachable: 'Check the address and the connection, or download the file and open it from disk.',
}

/** Something that may be over when it is tried again. */
export class Trouble extends Error {
  /** `why` is a clause with the server as its subject; `waitMs` is what the server asks for. */
  constructor(
    readonly why: string,
    readonly advice: string,
    readonly waitMs: number | null = null,
    readonly kind: ErrorKind = 'source',
  ) {
    super(why)
  }
}

/** So much progress makes failures before it forgotten. */
const PROGRESS_BYTES = 1 << 20

/** Runs `attempt` until it ends without `Trouble`, or a few times in a row: then one sentence about `name`. */
export async function persist<T>(
  name: string,
  net: Net,
  attempt: () => Promise<T>,
  reached: () => number = () => 0,
): Promise<T> {
  const { tries, pauseMs, longestPauseMs } = net.patience
  let before = reached()
  for (let failed = 1; ; failed++) {
    try {
      return await attempt()
    } catch (thrown) {
      if (!(thrown instanceof Trouble)) throw thrown
      if (reached() - before >= PROGRESS_BYTES) failed = 1
      before = reached()
      const wait = thrown.waitMs ?? pauseMs * 2 ** (failed - 1)
      if (isOffline() && (net.opening || failed >= tries))
        throw new Failure(
          thrown.kind,
          `${name}: this device has no network connection. ${(net.advice ?? READING).offline}`,
        )
      if (wait > longestPauseMs)
        throw new Failure(
          thrown.kind,
          `${name}: ${thrown.why} and asks to wait ${minutes(wait)}. Run the step again then.`,
        )
      if (failed >= tries)
        throw new Failure(thrown.kind, `${name}: ${thrown.why}, ${tries} times in a row. ${thrown.advice}`)
      await pause(wait, net.signal())
      net.opening?.(name, failed + 1, tries)
    }
  }
}

/** Whether the browser knows that there is no network; that there is one it cannot know. */
function isOffline(): boolean {
  return typeof navigator === 'object' && navigator.onLine === false
}

/**
 * One request; `use` reads the answer and calls `moved` whenever something arrived. Unread rest is dropped. A request
 * that is no GET has its method, and what it sends, in `sent`.
 */
export async function once<T>(
  url: string,
  headers: Record<string, string>,
  net: Net,
  use: (response: Response, moved: () => void) => Promise<T>,
  sent: Pick<RequestInit, 'method' | 'body'> = {},
): Promise<T> {
  const stop = net.signal()
  const leave = await enter()
  const controller = new AbortController()
  const abort = () => controller.abort()
  let stalled = false
  let timer: ReturnType<typeof setTimeout> | undefined
  const moved = () => {
    clearTimeout(timer)
    timer = setTimeout(() => {
      stalled = true
      abort()
    }, net.patience.stallMs)
  }
  stop?.addEventListener('abort', abort)
  try {
    if (stop?.aborted) throw cancelled()
    moved()
    const response = await send(url, { ...sent, headers, signal: controller.signal }, net)
    moved()
    return await use(response, moved)
  } catch (thrown) {
    if (stop?.aborted) throw cancelled()
    if (stalled) throw new Trouble(`${hostOf(url)} sent nothing for ${net.patience.stallMs / 1000} s`, AGAIN)
    throw thrown
  } finally {
    clearTimeout(timer)
    stop?.removeEventListener('abort', abort)
    abort()
    leave()
  }
}

/**
 * No cookies and no referrer: the server learns the address and no more. No store: the browser's cache is
 * too small for a model, and would push out everything else. The browser takes `Authorization` off by
 * itself where a redirect leads to another origin.
 */
async function send(url: string, request: RequestInit, net: Net): Promise<Response> {
  try {
    return await fetch(url, { ...request, credentials: 'omit', referrerPolicy: 'no-referrer', cache: 'no-store' })
  } catch {
    throw unreachable(url, net)
  }
}

export function unreachable(url: string, net: Net): Trouble {
  return new Trouble(
    `${hostOf(url)} cannot be reached, or does not let pages ${net.advice ? 'ask it' : 'read from it'}`,
    (net.advice ?? READING).unreachable,
  )
}

/** The answer with all of its body. */
export async function entire(response: Response, moved: () => void): Promise<Response> {
  const body: Uint8Array[] = []
  for await (const piece of pieces(response, moved)) body.push(piece)
  return new Response(body.length > 0 ? new Blob(body as BlobPart[]) : null, response)
}

/** The body in pieces. A connection that breaks is trouble, whatever the browser calls it. */
export async function* pieces(response: Response, moved: () => void): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader()
  if (!reader) return
  for (;;) {
    const next = await reader.read().catch(() => {
      throw brokenOff(response.url)
    })
    if (next.done) return
    moved()
    yield next.value
  }
}

export const AGAIN = 'Check the connection, then run the step again.'

export function brokenOff(url: string): Trouble {
  return new Trouble(`${hostOf(url)} broke off in the middle`, AGAIN)
}

export function authorization({ token }: { token?: string }): Record<string, string> {
  return token ? { Authorization: `Bearer ${token}` } : {}
}

export function hostOf(url: string): string {
  return URL.canParse(url) ? new URL(url).host : 'the server'
}

/**
 * Browsers hold back what exceeds six connections to a server. Held back here instead, a request's clock
 * starts when it is sent, and one that waits its turn does not look stalled.
 */
let free = 6
const waiting: (() => void)[] = []

export async function enter(): Promise<() => void> {
  if (free > 0) free--
  else await new Promise<void>(resolve => waiting.push(resolve))
  return () => {
    const next = waiting.shift()
    if (next) next()
    else free++
  }
}

function pause(ms: number, stop: AbortSignal | null): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer)
      reject(cancelled())
    }
    const timer = setTimeout(() => {
      stop?.removeEventListener('abort', abort)
      resolve()
    }, ms)
    if (stop?.aborted) abort()
    else stop?.addEventListener('abort', abort, { once: true })
  })
}

function minutes(ms: number): string {
  return ms < 90_000 ? `${Math.ceil(ms / 1000)} s` : `${Math.ceil(ms / 60_000)} min`
}

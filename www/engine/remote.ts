import { changed, contentRange, refuse, versionOf } from './answers'
import { Failure } from './errors'
import { authorization, brokenOff, hostOf, once, persist, pieces, Trouble, type Net } from './fetching'
import type { RemoteFile } from './messages'
import type { Observe } from './protocol/engine'
import type { ByteSource } from './protocol/files'
import { Downloads } from './whole'

/** Answers of a redirect's target that may only mean that its signature has run out. */
const RUN_OUT = [400, 401, 403, 404, 410]

/** What the first byte of a file tells of it. */
interface Probe {
  size: number
  version: string | null
  /** The other server that a redirect led to: asked directly from then on, and without the token. */
  direct: string | null
}

/** Range reads of a file on a server. What arrived stays when a connection breaks; the rest is asked again. */
export class RemoteSource implements ByteSource {
  readonly name: string
  readonly size: number
  private direct: string | null

  constructor(
    private readonly file: RemoteFile,
    private readonly known: Probe,
    private readonly net: Net,
  ) {
    this.name = file.name
    this.size = known.size
    this.direct = known.direct
  }

  read(offset: number, length: number): Promise<Uint8Array> {
    const bytes = this.fetch(offset, length)
    // The engine reads ahead and may never look at what it asked for; a failure of that is no failure of the worker.
    bytes.catch(() => {})
    return bytes
  }

  private async fetch(offset: number, length: number): Promise<Uint8Array> {
    if (!(offset >= 0) || !(length >= 0) || offset + length > this.size) {
      throw new Failure(
        'source',
        `${this.name}: bytes ${offset} to ${offset + length} were asked of a file of ${this.size} bytes. It is cut short on the server.`,
      )
    }
    const bytes = new Uint8Array(length)
    let filled = 0
    const attempt = async () => {
      const first = offset + filled
      await this.ask(first, offset + length - 1, async (response, moved) => {
        for await (const piece of pieces(response, moved)) {
          if (filled + piece.length > length) throw this.wrong(response, 'more bytes than were asked')
          bytes.set(piece, filled)
          filled += piece.length
        }
        if (filled < length) throw brokenOff(this.file.url)
      })
    }
    if (length > 0) await persist(this.name, this.net, attempt, () => filled)
    return bytes
  }

  private ask(
    first: number,
    last: number,
    use: (response: Response, moved: () => void) => Promise<void>,
  ): Promise<void> {
    const url = this.direct ?? this.file.url
    // No `If-Range`: it would cost a preflight, which not every content network answers. The version is compared here.
    const headers = { Range: `bytes=${first}-${last}`, ...(url === this.file.url ? authorization(this.file) : {}) }
    return once(url, headers, this.net, (response, moved) => {
      this.check(response, url, first, last)
      return use(response, moved)
    })
  }

  private check(response: Response, url: string, first: number, last: number): void {
    if (url === this.direct && RUN_OUT.includes(response.status)) {
      this.direct = null
      throw new Trouble(`${hostOf(url)} refuses what ${hostOf(this.file.url)} pointed to`, 'Open the model again.', 0)
    }
    if (response.status === 416) throw changed(this.name, 'it is shorter now')
    if (!response.ok) refuse(response, this.name, this.file.url)
    const version = versionOf(response.headers)
    if (version !== null && this.known.version !== null && version !== this.known.version) {
      throw changed(this.name, `its version was ${this.known.version} and is ${version}`)
    }
    if (response.status !== 206)
      throw new Trouble(`${hostOf(url)} sent the whole file where a part was asked`, 'Open the model again.')
    const range = contentRange(response.headers)
    if (range?.total !== null && range?.total !== undefined && range.total !== this.size)
      throw changed(this.name, `it had ${this.size} bytes and has ${range.total}`)
    if (range?.first !== first || range.last !== last)
      throw this.wrong(
        response,
        `"${response.headers.get('content-range') ?? 'no Content-Range'}" where bytes ${first} to ${last} were asked`,
      )
    this.direct ??= elsewhere(response, this.file)
  }

  private wrong(response: Response, what: string): Failure {
    return new Failure(
      'source',
      `${this.name}: ${hostOf(response.url)} sent ${what}. Download the file and open it from disk.`,
    )
  }
}

/**
 * The sources of a model on the network. A file that its server sends only whole is kept in the private
 * storage until `release`.
 */
export async function openRemote(
  files: RemoteFile[],
  net: Net,
  observe: Observe,
): Promise<{ sources: ByteSource[]; release(): Promise<void> }> {
  const opening = (name: string, attempt: number, of: number) =>
    void observe({
      progress: { stage: 'read', done: 0, total: 0, unit: 'bytes', detail: `${name}, attempt ${attempt} of ${of}` },
    })
  const first: Net = { ...net, opening }
  const downloads = new Downloads(first, observe)
  try {
    const probes = await Promise.all(files.map(file => probe(file, first)))
    const sources: ByteSource[] = []
    for (const [i, file] of files.entries()) {
      const known = probes[i]
      if (known === 'whole') sources.push(await downloads.fetch(file))
      else if (known) sources.push(new RemoteSource(file, known, net))
    }
    return { sources, release: () => downloads.release() }
  } catch (error) {
    await downloads.release()
    throw error
  }
}

/** Asks for one byte, because servers may answer HEAD otherwise than GET. Null is an optional file that is not there. */
function probe(file: RemoteFile, net: Net): Promise<Probe | 'whole' | null> {
  const headers = { Range: 'bytes=0-0', ...authorization(file) }
  return persist(file.name, net, () =>
    once(file.url, headers, net, async response => {
      if (response.status === 404 && file.optional) return null
      const empty = response.status === 416 && /^bytes \*\/0$/.test(response.headers.get('content-range') ?? '')
      if (!response.ok && !empty) refuse(response, file.name, file.url)
      if (/^text\/html/.test(response.headers.get('content-type') ?? '')) {
        throw new Failure(
          'source',
          `${file.name}: ${hostOf(file.url)} sent a web page, not the file. Use the address that downloads it.`,
        )
      }
      const size = empty ? 0 : contentRange(response.headers)?.total
      // A server that ignores ranges, or hides from this page which bytes it sent.
      if (size === undefined || size === null) return 'whole'
      if (file.size !== undefined && file.size !== size)
        throw changed(file.name, `the list of files says ${file.size} bytes and the file has ${size}`)
      return { size, version: versionOf(response.headers), direct: elsewhere(response, file) }
    }),
  )
}

function elsewhere(response: Response, file: RemoteFile): string | null {
  return response.redirected && new URL(response.url).origin !== new URL(file.url).origin ? response.url : null
}

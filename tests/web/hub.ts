import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Writing } from './hubwrite'

/** How the server misbehaves. All of it can be changed while it runs. */
export interface Switches {
  /** Off: every answer is the whole file. */
  ranges: boolean
  /** Large files come from another origin, as from the hub's content network. */
  redirect: boolean
  /** Answers to make instead, one a request, until there are none left. */
  failures: Failure[]
  /** Bodies to spoil, one a request for more than a byte, until there are none left. */
  spoiled: { how: 'stall' | 'truncate'; after: number }[]
  etag: string
  /** Shift of the bytes that `Content-Range` claims. */
  shift: number
  /** Off: parts come without saying which, as where a page may not see `Content-Range`. */
  contentRange: boolean
  token: string | null
  status: Record<string, number>
}

export interface Failure {
  status: number
  headers?: Record<string, string>
}

export interface Asked {
  path: string
  range: string | undefined
  authorization: string | undefined
  /** Asked of the other origin, where redirects lead. */
  elsewhere: boolean
}

const EXPOSED = 'ETag, Content-Range, Link, X-Error-Code, Retry-After'

/**
 * A local server with the hub's layout of addresses: lists under `/api/models`, files under `/resolve`; `writing` is the
 * half that takes models.
 */
export class Hub {
  readonly asked: Asked[] = []
  readonly switches: Switches = {
    ranges: true,
    redirect: false,
    failures: [],
    spoiled: [],
    etag: '"v1"',
    shift: 0,
    contentRange: true,
    token: null,
    status: {},
  }
  readonly writing = new Writing()
  private readonly servers: Server[] = []
  url = ''
  /** Where redirects lead. */
  elsewhere = ''

  constructor(private readonly repositories: Record<string, Record<string, Uint8Array>>) {}

  async start(): Promise<this> {
    this.url = await this.listen(false, (request, response) => this.answer(request, response))
    this.elsewhere = await this.listen(true, (request, response) => this.content(request, response))
    return this
  }

  stop(): void {
    for (const server of this.servers) {
      server.closeAllConnections()
      server.close()
    }
  }

  /** Paths of the requests since the last look. */
  paths(): string[] {
    return this.asked.splice(0).map(({ path }) => path)
  }

  private listen(
    elsewhere: boolean,
    handle: (request: IncomingMessage, response: ServerResponse) => void,
  ): Promise<string> {
    const server = createServer((request, response) => {
      const { 'access-control-request-headers': wanted } = request.headers
      response.setHeader('Access-Control-Allow-Origin', '*')
      response.setHeader('Access-Control-Expose-Headers', EXPOSED)
      if (request.method === 'OPTIONS')
        return response
          .writeHead(204, {
            'Access-Control-Allow-Headers': wanted ?? '',
            'Access-Control-Allow-Methods': 'GET, POST, PUT',
          })
          .end()
      this.asked.push({
        path: request.url ?? '',
        range: request.headers.range,
        authorization: request.headers.authorization,
        elsewhere,
      })
      handle(request, response)
    })
    this.servers.push(server)
    return new Promise(resolve =>
      server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)),
    )
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    const { failures, token, redirect, status } = this.switches
    const url = new URL(request.url ?? '/', this.url)
    const failure = failures.shift() ?? (status[url.pathname] ? { status: status[url.pathname]! } : null)
    if (failure) return void response.writeHead(failure.status, failure.headers).end('no')
    if (this.writing.answer(request, response, this.url, this.elsewhere)) return
    if (token !== null && request.headers.authorization !== `Bearer ${token}`)
      return void response.writeHead(401).end('who are you')
    const tree = /^\/api\/models\/([^/]+\/[^/]+)\/tree\/([^/]+)$/.exec(url.pathname)
    if (tree) return this.list(tree[1] ?? '', url, response)
    const file = this.find(url.pathname)
    if (!file) return void response.writeHead(404).end('not found')
    if (redirect && file.length > 1000)
      return void response.writeHead(302, { Location: `${this.elsewhere}${url.pathname}` }).end()
    this.send(file, request, response)
  }

  private content(request: IncomingMessage, response: ServerResponse): void {
    const failure = this.switches.failures.shift()
    if (failure) return void response.writeHead(failure.status, failure.headers).end('no')
    if (this.writing.store(request, response)) return
    const file = this.find(new URL(request.url ?? '/', this.url).pathname)
    if (file) this.send(file, request, response)
    else response.writeHead(404).end()
  }

  private find(pathname: string): Uint8Array | undefined {
    const [, organisation, name, view, , ...path] = pathname.split('/').map(decodeURIComponent)
    return view === 'resolve' ? this.repositories[`${organisation}/${name}`]?.[path.join('/')] : undefined
  }

  /** Two entries a page, so that pages matter. */
  private list(name: string, url: URL, response: ServerResponse): void {
    const files = Object.entries(this.repositories[name] ?? {}).map(([path, { length }]) => ({
      type: 'file',
      oid: '0',
      path,
      size: length,
    }))
    if (files.length === 0)
      return void response
        .writeHead(404, { 'Content-Type': 'application/json' })
        .end('{"error":"Repository not found"}')
    const from = Number(url.searchParams.get('cursor') ?? 0)
    const next =
      from + 2 < files.length
        ? { Link: `<${this.url}${url.pathname}?recursive=true&cursor=${from + 2}>; rel="next"` }
        : {}
    response.writeHead(200, { 'Content-Type': 'application/json', ...next })
    const body = JSON.stringify(files.slice(from, from + 2))
    if (!this.switches.spoiled.shift()) return void response.end(body)
    response.write(body.slice(0, 9), () => response.destroy())
  }

  private send(file: Uint8Array, request: IncomingMessage, response: ServerResponse): void {
    const { ranges, etag, shift, contentRange, spoiled } = this.switches
    const match = ranges ? /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') : null
    const [first, last] = match ? [Number(match[1]), Math.min(Number(match[2]), file.length - 1)] : [0, file.length - 1]
    if (match && first >= file.length)
      return void response.writeHead(416, { 'Content-Range': `bytes */${file.length}` }).end()
    const body = file.subarray(first, last + 1)
    response.writeHead(match ? 206 : 200, {
      ETag: etag,
      'Content-Type': 'application/octet-stream',
      'Content-Length': body.length,
      ...(match && contentRange ? { 'Content-Range': `bytes ${first + shift}-${last + shift}/${file.length}` } : {}),
    })
    const spoil = body.length > 1 ? spoiled.shift() : undefined
    if (!spoil) return void response.end(body)
    response.write(body.subarray(0, spoil.after), () => {
      if (spoil.how === 'truncate') response.destroy()
    })
  }
}

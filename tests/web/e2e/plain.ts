import { createHash } from 'node:crypto'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { extname, join } from 'node:path'

/** The path below which the page lies: as on hosts that give each project a folder. */
const BELOW = '/some/folder/'
const TYPES: Record<string, string> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
}

export interface PlainHost {
  url: string
  /** Paths below the page's folder that were asked for, in order. */
  asked: string[]
  /** While true every connection is cut. */
  down: boolean
  /** Headers of every answer, besides the type. */
  headers: Record<string, string>
  close(): void
}

/** The simplest host there is: no headers but a type, and no type for what it does not know (`.wasm` among them). */
export async function plainHost(folder: string): Promise<PlainHost> {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://host')
    if (host.down) return void request.socket.destroy()
    const path = pathname.slice(BELOW.length) || 'index.html'
    host.asked.push(path)
    try {
      const content = readFileSync(join(folder, pathname.startsWith(BELOW) ? path : 'nowhere'))
      response
        .writeHead(200, { ...host.headers, 'Content-Type': TYPES[extname(path)] ?? 'application/octet-stream' })
        .end(content)
    } catch {
      response.writeHead(404).end('nothing here')
    }
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const host: PlainHost = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}${BELOW}`,
    asked: [],
    down: false,
    headers: {},
    close: () => {
      server.close()
      server.closeAllConnections()
    },
  }
  return host
}

/** A copy of a built page on a plain host, with its folder; `end` takes both away. */
export async function hostedCopy(built: string): Promise<{ folder: string; host: PlainHost; end: () => void }> {
  const folder = mkdtempSync(join(tmpdir(), 'laminate-host-'))
  cpSync(built, folder, { recursive: true })
  const host = await plainHost(folder)
  return {
    folder,
    host,
    end: () => {
      host.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** Makes another version of a built page: the same, but for a remark in its style sheet. */
export function publishNext(folder: string): void {
  const name = readdirSync(join(folder, 'assets')).find(file => /^index-.*\.css$/.test(file))!
  const digest = () =>
    createHash('sha256')
      .update(readFileSync(join(folder, 'assets', name)))
      .digest('hex')
      .slice(0, 16)
  const before = digest()
  writeFileSync(
    join(folder, 'assets', name),
    `${readFileSync(join(folder, 'assets', name), 'utf8')}\n:root { --version: 2; }\n`,
  )
  const keeper = join(folder, 'offline.js')
  writeFileSync(keeper, readFileSync(keeper, 'utf8').replace(before, digest()))
}

import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import type { Actions } from '../../www/app/actions'
import { openSample, SAMPLE } from '../../www/open/sample'
import { State } from '../../www/app/state.svelte'

afterEach(() => vi.unstubAllGlobals())

describe('the server of the page', () => {
  const cache = mkdtempSync(join(tmpdir(), 'laminate-sample-'))
  const file = join(cache, 'sample', `${SAMPLE.name}.gguf`)
  const path = `/sample/${SAMPLE.name}.gguf`
  let server: Server
  let base = ''
  beforeAll(async () => {
    vi.stubEnv('LAMINATE_CACHE', cache)
    vi.resetModules()
    const { answerSample } = await import('../../scripts/sample.mjs')
    server = createServer((request, response) => {
      if (!answerSample(request, response, { 'X-Own': '1' })) response.writeHead(404).end()
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  afterAll(() => {
    server.close()
    vi.unstubAllEnvs()
    rmSync(cache, { recursive: true, force: true })
  })
  const ask = (range?: string, method = 'GET') => fetch(base + path, { method, headers: range ? { range } : {} })

  test('has nothing before it was fetched, and nothing of another size', async () => {
    expect((await ask()).status).toBe(404)
    mkdirSync(join(cache, 'sample'))
    writeFileSync(file, 'GGUF')
    expect((await ask()).status).toBe(404)
  })

  test('answers ranges, and tells the size without sending it', async () => {
    truncateSync(file, SAMPLE.bytes)
    const head = await ask(undefined, 'HEAD')
    expect([head.status, head.headers.get('content-length'), head.headers.get('x-own')]).toEqual([
      200,
      String(SAMPLE.bytes),
      '1',
    ])
    const part = await ask('bytes=0-3')
    expect([part.status, part.headers.get('content-range'), await part.text()]).toEqual([
      206,
      `bytes 0-3/${SAMPLE.bytes}`,
      'GGUF',
    ])
    const end = await ask(`bytes=${SAMPLE.bytes - 5}-${SAMPLE.bytes + 10}`)
    expect([end.status, (await end.arrayBuffer()).byteLength]).toEqual([206, 5])
    expect((await ask(`bytes=${SAMPLE.bytes}-`)).status).toBe(416)
    expect((await fetch(`${base}/sample/other.gguf`)).status).toBe(404)
    expect((await ask(undefined, 'POST')).status).toBe(404)
  })
})

describe('the page', () => {
  /** Opens it with a network that answers like this; gives what was opened, and what was asked. */
  async function opened(answer: (url: string) => Response) {
    const asked: string[] = []
    vi.stubGlobal('document', { baseURI: 'http://page/' })
    vi.stubGlobal('fetch', async (input: URL | string) => {
      asked.push(String(input))
      return answer(String(input))
    })
    const openIn = vi.fn()
    const run = { controller: new AbortController() }
    const actions = {
      state: new State(),
      openIn,
      observe: () => {},
      during: (_: string, work: (run: unknown) => Promise<void>) => work(run),
    }
    await openSample(actions as unknown as Actions).catch(() => {})
    return { asked, files: openIn.mock.lastCall?.[1].files }
  }

  test('takes the copy that its server has', async () => {
    const { asked, files } = await opened(
      () => new Response(null, { headers: { 'content-length': String(SAMPLE.bytes) } }),
    )
    expect(asked).toEqual([`http://page/sample/${SAMPLE.name}.gguf`])
    expect(files).toEqual([{ name: `${SAMPLE.name}.gguf`, url: asked[0], size: SAMPLE.bytes }])
  })

  test.each([
    ['has none', () => new Response(null, { status: 404 })],
    ['answers everything with the page', () => new Response('<html>', { headers: { 'content-length': '6' } })],
  ])('goes to the hub where its server %s', async (_, here) => {
    const listing = [
      { type: 'file', path: `${SAMPLE.name}.gguf`, size: SAMPLE.bytes, oid: 'x' },
      { type: 'file', path: 'other.gguf', size: 5, oid: 'y' },
    ]
    const { asked, files } = await opened(url => (url.startsWith('http://page') ? here() : Response.json(listing)))
    expect(asked[1]).toMatch(
      /^https:\/\/huggingface\.co\/api\/models\/QuantFactory\/SmolLM2-135M-Instruct-GGUF\/tree\/ab810cf/,
    )
    expect(files).toEqual([expect.objectContaining({ name: `${SAMPLE.name}.gguf`, size: SAMPLE.bytes })])
    expect(files[0].url).toMatch(/^https:\/\/huggingface\.co\/QuantFactory\/.*\/resolve\/ab810cf/)
  })
})

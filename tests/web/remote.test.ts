import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { contentRange, retryAfter, versionOf } from '../../www/engine/answers'
import { toEngineError } from '../../www/engine/errors'
import type { Net } from '../../www/engine/fetching'
import type { RemoteFile } from '../../www/engine/messages'
import { openRemote } from '../../www/engine/remote'
import { Hub } from './hub'
import { MemoryDirectory } from './memory'

const weights = new Uint8Array(4_000_000).map((_, i) => i * 7 + (i >> 8))
const small = new TextEncoder().encode('{"model_type":"llama"}')

let hub: Hub
let stop: AbortController
let net: Net
beforeEach(async () => {
  hub = await new Hub({
    'org/name': { 'model.gguf': weights, 'config.json': small, 'empty.txt': new Uint8Array() },
  }).start()
  stop = new AbortController()
  net = { signal: () => stop.signal, patience: { tries: 3, pauseMs: 1, longestPauseMs: 2_000, stallMs: 150 } }
})
afterEach(() => {
  hub.stop()
  vi.unstubAllGlobals()
})

const file = (name = 'model.gguf', over: Partial<RemoteFile> = {}): RemoteFile => ({
  name,
  url: `${hub.url}/org/name/resolve/main/${name}`,
  ...over,
})
const open = async (one = file(), observe = async () => false) => (await openRemote([one], net, observe)).sources[0]!
/** The sentence that an attempt ends in. */
const said = async (work: Promise<unknown>) => {
  const { kind, message } = toEngineError(
    await work.then(
      () => {
        throw new Error('it went well')
      },
      error => error,
    ),
  )
  return `${kind}: ${message.replaceAll(/127\.0\.0\.1:\d+/g, 'HOST')}`
}
const same = (bytes: Uint8Array, from: number) =>
  expect(Buffer.compare(bytes, weights.subarray(from, from + bytes.length))).toBe(0)

describe('ranges', () => {
  test('size and version come from one byte, not from HEAD', async () => {
    const source = await open()
    expect(hub.asked).toMatchObject([{ range: 'bytes=0-0' }])
    expect(source.size).toBe(4_000_000)
  })
  test('any part, several at a time', async () => {
    const source = await open()
    const parts = await Promise.all([0, 1, 1000, 3_999_000].map(from => source.read(from, 1000)))
    parts.forEach((part, i) => same(part, [0, 1, 1000, 3_999_000][i]!))
    expect(await source.read(10, 0)).toHaveLength(0)
  })
  test('more readers than connections', async () => {
    const source = await open()
    const parts = await Promise.all(Array.from({ length: 40 }, (_, i) => source.read(i * 1000, 1000)))
    parts.forEach((part, i) => same(part, i * 1000))
  })
  test('beyond the end is refused without asking', async () => {
    const source = await open()
    hub.paths()
    expect(await said(source.read(3_999_999, 2))).toContain(
      'model.gguf: bytes 3999999 to 4000001 were asked of a file of 4000000 bytes',
    )
    expect(hub.asked).toEqual([])
  })
  test('an empty file, and an optional one that is not there', async () => {
    const { sources } = await openRemote(
      [file('empty.txt'), file('none.json', { optional: true })],
      net,
      async () => false,
    )
    expect(sources.map(({ name, size }) => [name, size])).toEqual([['empty.txt', 0]])
  })
  test('a redirect is followed once, then its target is asked, without the token', async () => {
    Object.assign(hub.switches, { redirect: true, token: 'secret' })
    const source = await open(file('model.gguf', { token: 'secret' }))
    same(await source.read(5, 2000), 5)
    expect(hub.asked.map(asked => asked.authorization)).toEqual(['Bearer secret', undefined, undefined])
  })
  test('a target whose address has run out is looked up again', async () => {
    hub.switches.redirect = true
    const source = await open()
    hub.switches.failures = [{ status: 403 }]
    same(await source.read(5, 2000), 5)
    same(await source.read(9, 2000), 9)
  })
})

describe('failures that pass', () => {
  test.each([
    ['429 with Retry-After', [{ status: 429, headers: { 'Retry-After': '1' } }]],
    ['500 and 503', [{ status: 500 }, { status: 503 }]],
  ])('%s', async (_, failures) => {
    const source = await open()
    hub.switches.failures = [...failures]
    const hasWait = 'headers' in failures[0]!
    const started = performance.now()
    same(await source.read(0, 1000), 0)
    if (hasWait) expect(performance.now() - started).toBeGreaterThan(950)
  })
  test.each(['stall', 'truncate'] as const)('a body that ends in %s goes on from the byte it reached', async how => {
    const source = await open()
    hub.paths()
    hub.switches.spoiled = [
      { how, after: 1_000 },
      { how, after: 2_000 },
    ]
    const bytes = await source.read(100, 3_000_000)
    same(bytes, 100)
    const asked = hub.asked.map(({ range }) => Number(/=(\d+)-/.exec(range!)![1]))
    expect(asked).toHaveLength(3)
    expect(asked[0]).toBe(100)
    expect(asked[2]! > asked[0]!).toBe(true)
  })
  test('progress makes earlier failures forgotten', async () => {
    const source = await open()
    hub.switches.spoiled = Array.from({ length: 3 }, () => ({ how: 'truncate', after: 1_300_000 }) as const)
    same(await source.read(0, 4_000_000), 0)
  })
  test('a server that begins with trouble', async () => {
    hub.switches.failures = [{ status: 502 }]
    expect((await open()).size).toBe(4_000_000)
  })
})

describe('failures that stay: one sentence', () => {
  test.each([
    [
      401,
      'source: model.gguf: HOST asks who you are (status 401): it is private, or it does not exist. Check the spelling, or give a token that may read it.',
    ],
    [
      403,
      "source: model.gguf: HOST refuses access (status 403). Accept the licence on the model's page, then give a token of the same account; or check that the address may be read.",
    ],
    [
      404,
      'source: model.gguf: HOST has no such thing (status 404). Check the spelling of the repository, the revision and the file.',
    ],
    [
      418,
      'source: model.gguf: HOST answered with status 418. Open http://HOST/org/name/resolve/main/model.gguf in a tab to see why.',
    ],
  ])('%d at once', async (status, sentence) => {
    hub.switches.failures = [{ status }]
    expect(await said(open())).toBe(sentence)
    expect(hub.asked).toHaveLength(1)
  })
  test('a gated repository answers 401 too', async () => {
    hub.switches.failures = [{ status: 401, headers: { 'X-Error-Code': 'GatedRepo' } }]
    expect(await said(open())).toContain('Accept the licence')
  })
  test.each([
    [
      429,
      'limit: model.gguf: HOST wants fewer requests (status 429), 3 times in a row. Wait some minutes, then run the step again.',
    ],
    [500, 'source: model.gguf: HOST failed (status 500), 3 times in a row. Try again later.'],
  ])('%d again and again', async (status, sentence) => {
    const source = await open()
    hub.switches.failures = Array.from({ length: 3 }, () => ({ status }))
    expect(await said(source.read(0, 10))).toBe(sentence)
  })
  test('a wait that is too long is not waited', async () => {
    hub.switches.failures = [{ status: 429, headers: { 'Retry-After': '3600' } }]
    expect(await said(open())).toBe(
      'limit: model.gguf: HOST wants fewer requests (status 429) and asks to wait 60 min. Run the step again then.',
    )
  })
  test('stalls', async () => {
    const source = await open()
    hub.switches.spoiled = Array.from({ length: 3 }, () => ({ how: 'stall', after: 10 }) as const)
    expect(await said(source.read(0, 1000))).toBe(
      'source: model.gguf: HOST sent nothing for 0.15 s, 3 times in a row. Check the connection, then run the step again.',
    )
  })
  test('bodies cut short', async () => {
    const source = await open()
    hub.switches.spoiled = Array.from({ length: 3 }, () => ({ how: 'truncate', after: 10 }) as const)
    expect(await said(source.read(0, 1000))).toBe(
      'source: model.gguf: HOST broke off in the middle, 3 times in a row. Check the connection, then run the step again.',
    )
  })
  test('a server that is gone', async () => {
    const source = await open()
    hub.stop()
    expect(await said(source.read(0, 1000))).toMatch(
      /^source: model.gguf: HOST cannot be reached, or does not let pages read from it, 3 times in a row\./,
    )
  })
  test('a file that changes', async () => {
    const source = await open()
    hub.switches.etag = '"v2"'
    expect(await said(source.read(0, 1000))).toBe(
      'source: model.gguf changed on the server while it was being read (its version was "v1" and is "v2"). Open the model again.',
    )
  })
  test('a file of another size than listed', async () => {
    expect(await said(open(file('model.gguf', { size: 5 })))).toContain(
      'the list of files says 5 bytes and the file has 4000000',
    )
  })
  test('other bytes than asked', async () => {
    const source = await open()
    hub.switches.shift = 1
    expect(await said(source.read(0, 1000))).toBe(
      'source: model.gguf: HOST sent "bytes 1-1000/4000000" where bytes 0 to 999 were asked. Download the file and open it from disk.',
    )
  })
  test.each(['a request in the middle', 'a wait'])("the user's stop ends %s", async what => {
    const source = await open()
    if (what === 'a wait') hub.switches.failures = [{ status: 429, headers: { 'Retry-After': '2' } }]
    else hub.switches.spoiled = [{ how: 'stall', after: 10 }]
    const reading = said(source.read(0, 1000))
    setTimeout(() => stop.abort(), 50)
    expect(await reading).toBe('cancelled: Cancelled; nothing was written.')
  })
})

describe('a server that ignores ranges', () => {
  const big = new Uint8Array(33_000_000).fill(5)
  let storage: MemoryDirectory
  beforeEach(async () => {
    hub.stop()
    hub = await new Hub({ 'org/name': { 'model.gguf': big, 'config.json': small } }).start()
    hub.switches.ranges = false
    // Copying takes longer than reading, and nothing here is about stalls.
    net.patience = { ...net.patience, stallMs: 5_000 }
    storage = new MemoryDirectory('storage')
    stubStorage({ quota: 1e9, usage: 0 })
  })
  const stubStorage = (estimate: StorageEstimate) =>
    vi.stubGlobal('navigator', {
      storage: { getDirectory: async () => storage.handle, estimate: async () => estimate },
    })
  const jobs = () => storage.directory('laminate')?.names() ?? []

  test('is read once, into the private storage; small files stay in memory', async () => {
    const told: number[] = []
    const { sources, release } = await openRemote([file('config.json'), file()], net, async event => {
      if ('progress' in event) told.push(event.progress.done)
      return false
    })
    expect(await sources[1]!.read(32_999_990, 10)).toEqual(new Uint8Array(10).fill(5))
    expect(await sources[0]!.read(0, small.length)).toEqual(small)
    expect(storage.directory('laminate').directory(jobs()[0]!).names()).toEqual(['model.gguf'])
    expect(told.length).toBeGreaterThan(10)
    hub.paths()
    await sources[1]!.read(0, 10)
    expect(hub.asked).toEqual([])
    await release()
    expect(jobs()).toEqual([])
  })
  test('so is a file whose parts do not say which they are', async () => {
    Object.assign(hub.switches, { ranges: true, contentRange: false })
    expect((await open()).size).toBe(33_000_000)
  })
  test('begins again when it breaks off, and leaves nothing when it stays broken', async () => {
    hub.switches.spoiled = [
      { how: 'truncate', after: 1000 },
      { how: 'truncate', after: 5_000_000 },
    ]
    hub.switches.spoiled.unshift({ how: 'truncate', after: 1 })
    expect((await open()).size).toBe(33_000_000)
    hub.switches.spoiled = Array.from({ length: 9 }, () => ({ how: 'truncate', after: 1000 }) as const)
    const before = jobs()
    expect(await said(open())).toContain('broke off in the middle, 3 times in a row')
    expect(jobs()).toEqual(before)
  })
  test('not enough room is said before anything is fetched', async () => {
    stubStorage({ quota: 20e6, usage: 0 })
    expect(await said(open())).toBe(
      'limit: model.gguf: HOST sends it only whole: that needs 49 MB and this browser gives the page 20 MB. Free disk space, or download the file and open it from disk.',
    )
  })
  test('no storage at all', async () => {
    vi.stubGlobal('navigator', {})
    expect(await said(open())).toBe(
      'limit: model.gguf: HOST sends it only whole, and this browser has no private storage to keep it in. Download the file and open it from disk.',
    )
  })
  test('a quota that ends half-way leaves nothing', async () => {
    storage.room = 10e6
    expect(await said(open())).toMatch(/^limit: model.gguf does not fit: .* full/)
    expect(jobs()).toEqual([])
  })
  test('can be cancelled', async () => {
    expect(await said(openRemote([file()], net, async () => true))).toBe('cancelled: Cancelled; nothing was written.')
    expect(jobs()).toEqual([])
  })
})

describe('headers', () => {
  const headers = (init: Record<string, string>) => new Headers(init)
  test('Retry-After in seconds, as a date, and neither', () => {
    const now = Date.parse('2026-01-01T00:00:00Z')
    expect(
      ['7', 'Thu, 01 Jan 2026 00:00:09 GMT', 'Wed, 31 Dec 2025 00:00:00 GMT', 'soon'].map(text =>
        retryAfter(headers({ 'retry-after': text }), now),
      ),
    ).toEqual([7000, 9000, 0, null])
    expect(retryAfter(headers({}))).toBeNull()
  })
  test('Content-Range', () => {
    expect(contentRange(headers({ 'content-range': 'bytes 0-9/20' }))).toEqual({ first: 0, last: 9, total: 20 })
    expect(contentRange(headers({ 'content-range': 'bytes 0-9/*' }))?.total).toBeNull()
    expect(contentRange(headers({ 'content-range': 'bytes */20' }))).toBeNull()
  })
  test('versions', () => {
    expect(versionOf(headers({ etag: 'W/"a"', 'last-modified': 'x' }))).toBe('"a"')
    expect(versionOf(headers({ 'last-modified': 'x' }))).toBe('x')
    expect(versionOf(headers({}))).toBeNull()
  })
})

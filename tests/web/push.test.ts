import { createHash } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { toEngineError } from '../../www/engine/errors'
import { unreachable } from '../../www/engine/fetching'
import type { Opened } from '../../www/engine/source'
import { matrixSvg } from '../../www/charts/matrixfigure'
import { recipeOf } from '../../www/share'
import { cardOf, cardWith } from '../../www/take/push/card'
import { destination, make, send, type Destination, type SentFile } from '../../www/take/push/upload'
import { proposedName, whyNoName } from '../../www/take/push/names'
import { baseModel } from '../../www/take/push/push'
import type { Put } from '../../www/take/push/put'
import { saidBy } from '../../www/take/push/refusals'
import type { Reach } from '../../www/take/push/sending'
import { Sent } from '../../www/take/push/sent'
import { Hub } from './hub'
import { goldenPlan, planOptions, stored } from './stored'

const WRITES = 'any form of token'
const READS = 'hf_reads'

let hub: Hub
let stop: AbortController
let sent: Sent
/** Parts and files that the page knows to have arrived. */
let acknowledged: string[]
/** The page's own sending is by XMLHttpRequest, which only browsers have (`e2e/push.e2e.ts`). */
const put: Put = async (url, body, headers, net, left) => {
  const answer = await fetch(url, { method: 'PUT', body, headers, signal: net.signal() }).catch(() => {
    throw unreachable(url, net)
  })
  left(body.size)
  if (answer.ok) acknowledged.push(new URL(url).pathname)
  return answer
}
const reach = (over: Partial<Reach> = {}): Reach => ({
  hub: hub.url,
  repository: 'alice/small',
  token: WRITES,
  sent,
  put,
  net: {
    signal: () => stop.signal,
    patience: { tries: 2, pauseMs: 1, longestPauseMs: 2_000, stallMs: 2_000 },
    advice: { offline: 'Connect it.', unreachable: 'Check the address.' },
  },
  ...over,
})

const random = (length: number) => {
  let state = length
  return new Uint8Array(length).map(() => (state = (Math.imul(state, 1103515245) + 12345) >>> 0) >>> 16)
}
const weights = random(250_000)
const text = new TextEncoder().encode('# a card\n')
const files: SentFile[] = [
  { path: 'README.md', content: new Blob([text]) },
  { path: 'model.safetensors', content: new Blob([weights]) },
]
const parcel = (over: Partial<Destination> & { isPublic?: boolean } = {}) => ({
  account: 'alice',
  repository: 'alice/small',
  existing: null,
  files,
  isPublic: false,
  title: 'Smaller',
  ...over,
})
const sendAll = (over: Partial<Reach> = {}, tell = () => {}) => send(parcel(), reach(over), tell)
/** The sentence that an attempt ends in. */
const said = async (work: Promise<unknown>) => {
  const thrown = await work.then(
    () => Promise.reject(new Error('it went well')),
    error => error as unknown,
  )
  const { kind, message } = toEngineError(thrown)
  return `${kind}: ${message.replaceAll(/127\.0\.0\.1:\d+/g, 'HOST')}`
}
const arrived = (path: string) => hub.writing.made.get('alice/small')?.files.get(path)

beforeEach(async () => {
  hub = await new Hub({}).start()
  hub.writing.switches.people = {
    [WRITES]: {
      name: 'alice',
      role: 'write',
      orgs: [
        { name: 'lab', roleInOrg: 'write' },
        { name: 'club', roleInOrg: 'read' },
      ],
    },
    [READS]: { name: 'alice', role: 'read' },
  }
  stop = new AbortController()
  sent = new Sent()
  acknowledged = []
})
afterEach(() => {
  hub.stop()
  vi.unstubAllGlobals()
})

describe('names of repositories', () => {
  test.each([
    ['stories-planted-12L-laminated-5L', 'stories-planted-12L-laminated-5L'],
    ['a--b..c', 'a-b.c'],
    ['.-x-.', 'x'],
    ['m.git', 'm'],
    ['ü', 'model'],
    ['x'.repeat(120), 'x'.repeat(96)],
    [`${'x'.repeat(95)}-y`, 'x'.repeat(95)],
  ])('"%s" is proposed as "%s", which is a name', (model, name) => {
    expect(proposedName(model)).toBe(name)
    expect(whyNoName(name)).toBe('')
  })
  test.each(['small', 'lab/small', ' small ', 'A_b-1.2'])('"%s" is a name', typed => expect(whyNoName(typed)).toBe(''))
  test.each([
    ['', 'Name the repository first.'],
    ['a/b/c', 'is no name of a repository'],
    ['lab/', 'lacks what stands on one side of the slash'],
    ['my model', 'has a space in it'],
    ['möbel', 'has the character ö in it'],
    ['a--b', 'two dashes or dots side by side'],
    ['a..b', 'two dashes or dots side by side'],
    ['../b', 'two dashes or dots side by side'],
    ['-a', 'begins or ends with a dash or a dot'],
    ['a.git', 'ends like a file of another kind'],
    ['x'.repeat(97), 'is longer than 96 characters'],
    ['a\u202eb', 'has the character'],
  ])('"%s" is refused in a sentence', (typed, sentence) => expect(whyNoName(typed)).toContain(sentence))
})

describe('where it would go', () => {
  const to = (typed: string, token = WRITES) => destination(typed, reach({ token }))

  test('the token says whose; nothing is made by looking', async () => {
    expect(await to('small')).toEqual({ account: 'alice', repository: 'alice/small', existing: null })
    expect(await to('lab/small')).toMatchObject({ repository: 'lab/small' })
    expect(hub.writing.made.size).toBe(0)
    expect(hub.asked.every(({ path }) => /whoami-v2|\/revision\/HEAD/.test(path))).toBe(true)
  })
  test('a repository that is there: who sees it and what is in it', async () => {
    await make(parcel({ isPublic: true }), reach())
    expect((await to('small')).existing).toEqual({ isPrivate: false, files: ['.gitattributes'] })
  })
  test('a wrong token', async () => {
    expect(await said(to('small', 'wrong'))).toBe(
      'source: HOST does not accept the token. Copy it whole once more, or make a new one that may write at http://HOST/settings/tokens.',
    )
  })
  test('a token that may only read', async () => {
    expect(await said(to('small', READS))).toBe(
      'source: This token of alice may only read. Make one that may at http://HOST/settings/tokens.',
    )
  })
  test('a fine-grained token, by what it may where', async () => {
    const scoped = (name: string, permission: string) => [{ entity: { name }, permissions: [permission] }]
    const people = hub.writing.switches.people
    people.fine = { name: 'alice', role: 'fineGrained', scoped: scoped('alice', 'repo.write') }
    people.coarse = { name: 'alice', role: 'fineGrained', scoped: scoped('alice', 'repo.content.read') }
    people.single = { name: 'alice', role: 'fineGrained', scoped: scoped('alice/small', 'repo.write') }
    expect((await to('small', 'fine')).repository).toBe('alice/small')
    expect((await to('small', 'single')).repository).toBe('alice/small')
    expect(await said(to('small', 'coarse'))).toContain('may not write to the repositories of alice')
    expect(await said(to('other', 'single'))).toContain('may not write to the repositories of alice')
  })
  test("somebody else's name, and an organisation that one may only read", async () => {
    expect(await said(to('bob/small'))).toBe(
      'source: The token belongs to alice, and bob is somebody else. Name the repository alice/small, or give a token of bob.',
    )
    expect(await said(to('club/small'))).toContain('The account alice may only read in club.')
  })
  test('a server that is no hub, one that is not there, and no network', async () => {
    expect(await said(destination('small', reach({ hub: `${hub.url}/elsewhere` })))).toMatch(
      /^source: HOST does not answer like a Hugging Face hub \(.*\). Check its address.$/,
    )
    expect(await said(destination('small', reach({ hub: 'http://127.0.0.1:9' })))).toBe(
      'source: small: HOST cannot be reached, or does not let pages ask it, 2 times in a row. Check the address.',
    )
    vi.stubGlobal('navigator', { onLine: false })
    expect(await said(destination('small', reach({ hub: 'http://127.0.0.1:9' })))).toBe(
      'source: small: this device has no network connection. Connect it.',
    )
  })
})

describe('sending', () => {
  test('private unless asked otherwise; text in the commit, weights by Git LFS in one piece, the hub told of it', async () => {
    await make(parcel(), reach())
    await sendAll()
    const made = hub.writing.made.get('alice/small')!
    expect([made.isPrivate, made.commits]).toEqual([true, ['Smaller']])
    expect(Buffer.compare(arrived('model.safetensors')!, weights)).toBe(0)
    expect(Buffer.compare(arrived('README.md')!, text)).toBe(0)
    expect(hub.writing.puts.map(({ bytes }) => bytes)).toEqual([250_000])
    expect(hub.writing.verified.size).toBe(1)
    await make(parcel({ repository: 'alice/open', isPublic: true }), reach())
    expect(hub.writing.made.get('alice/open')!.isPrivate).toBe(false)
  })
  test('the token, of any form, goes to the hub and never to its storage', async () => {
    await make(parcel(), reach())
    hub.writing.switches.partBytes = 100_000
    await sendAll()
    const tokens = (elsewhere: boolean) =>
      new Set(hub.asked.filter(asked => asked.elsewhere === elsewhere).map(asked => asked.authorization))
    expect(tokens(true)).toEqual(new Set([undefined]))
    expect(tokens(false)).toEqual(new Set([`Bearer ${WRITES}`, undefined]))
    expect(
      hub.asked.filter(({ authorization, elsewhere }) => !authorization && !elsewhere).map(({ path }) => path),
    ).toEqual([expect.stringMatching(/^\/complete\//)])
  })
  test('in parts: all of them, each once, and bytes are told from none to all', async () => {
    await make(parcel(), reach())
    hub.writing.switches.partBytes = 60_000
    const told: [string, number, number][] = []
    await send(parcel(), reach(), (...each) => told.push(each))
    expect(hub.writing.puts.map(({ bytes }) => bytes).sort()).toEqual([10_000, 60_000, 60_000, 60_000, 60_000])
    expect(Buffer.compare(arrived('model.safetensors')!, weights)).toBe(0)
    expect(hub.writing.verified.size).toBe(1)
    const total = 250_000 + text.length
    expect(told.every(([, done, of]) => of === total && done <= total)).toBe(true)
    expect(told.some(([stage]) => stage === 'read')).toBe(true)
    const sending = told.filter(([stage]) => stage === 'send').map(([, done]) => done)
    expect(sending.slice(1).every((done, i) => done >= sending[i]!)).toBe(true)
    expect(sending.at(-1)).toBe(250_000)
  })
  test('what the hub has is not sent again, not even from another page', async () => {
    await make(parcel(), reach())
    hub.writing.switches.refuse = { at: 'commit', status: 400, error: 'not now' }
    expect(await said(sendAll())).toContain('HOST refuses to take alice/small (status 400): “not now”.')
    hub.writing.switches.refuse = null
    await sendAll({ sent: new Sent() })
    expect(hub.writing.puts).toHaveLength(1)
    expect(Buffer.compare(arrived('model.safetensors')!, weights)).toBe(0)
  })
  test('a broken connection: parts that have arrived are not sent again', async () => {
    await make(parcel(), reach())
    Object.assign(hub.writing.switches, { partBytes: 25_000, breakAfter: 6 })
    expect(await said(sendAll())).toMatch(
      /^source: model.safetensors for alice\/small: HOST cannot be reached, .* 2 times in a row. Check the address.$/,
    )
    expect(hub.writing.puts).toHaveLength(6)
    expect(arrived('model.safetensors')).toBeUndefined()
    hub.writing.switches.breakAfter = null
    const before = acknowledged.splice(0)
    expect(before.length).toBeGreaterThan(0)
    await sendAll()
    expect([...before, ...acknowledged].sort()).toEqual([...new Set(hub.writing.puts.map(({ path }) => path))].sort())
    expect(before.length + acknowledged.length).toBe(10)
    expect(Buffer.compare(arrived('model.safetensors')!, weights)).toBe(0)
  })
  test('a short break is bridged without a word', async () => {
    await make(parcel(), reach())
    hub.switches.failures = [{ status: 503 }, { status: 429, headers: { 'Retry-After': '0' } }]
    await sendAll({ net: { ...reach().net, patience: { ...reach().net.patience, tries: 4 } } })
    expect(Buffer.compare(arrived('model.safetensors')!, weights)).toBe(0)
  })
  test('a stop: cancelled, nothing in the repository, and it goes on at the next part', async () => {
    await make(parcel(), reach())
    Object.assign(hub.writing.switches, { partBytes: 25_000, slowMs: 20 })
    const tell = () => {
      if (hub.writing.puts.length >= 3) stop.abort()
    }
    expect(await said(sendAll({}, tell))).toMatch(/^cancelled: /)
    expect(hub.writing.made.get('alice/small')!.files.size).toBe(1)
    stop = new AbortController()
    hub.writing.switches.slowMs = 0
    const before = acknowledged.splice(0)
    expect(before.length).toBeGreaterThan(0)
    expect(before.length).toBeLessThan(10)
    await sendAll()
    expect(new Set([...before, ...acknowledged]).size).toBe(10)
    expect(before.length + acknowledged.length).toBe(10)
    expect(Buffer.compare(arrived('model.safetensors')!, weights)).toBe(0)
  })
  test('addresses that have run out are asked for anew', async () => {
    await make(parcel(), reach())
    Object.assign(hub.writing.switches, { partBytes: 50_000, breakAfter: 2 })
    await said(sendAll())
    hub.writing.switches.breakAfter = null
    hub.writing.expire()
    await sendAll()
    expect(Buffer.compare(arrived('model.safetensors')!, weights)).toBe(0)
    // The old addresses took nothing more: all five parts went to new ones.
    expect(new Set(acknowledged.slice(-5)).size).toBe(5)
  })
  test('a storage that takes nothing ends in a sentence', async () => {
    await make(parcel(), reach())
    const refusing: Put = async () => new Response('{"error":"no"}', { status: 403 })
    expect(await said(sendAll({ put: refusing }))).toBe(
      'source: HOST does not take model.safetensors (status 403: “no”). Try again later.',
    )
  })
  test.each([
    [
      { at: 'preupload', status: 403, error: 'Private repository storage limit reached, please upgrade your plan.' },
      'limit: HOST has no room left for alice/small: “Private repository storage limit reached, please upgrade your plan”. Free some there, or send a smaller model, or make the repository public.',
    ],
    [
      { at: 'commit', status: 413, error: 'x' },
      'limit: HOST has no room left for alice/small: “x”. Free some there, or send a smaller model.',
    ],
    [
      { at: 'batch', status: 403, error: 'Forbidden.' },
      'source: HOST does not let this token write to alice/small: “Forbidden”. Make one that may at http://HOST/settings/tokens, or choose another name.',
    ],
    [
      { at: 'commit', status: 412, error: '' },
      'source: alice/small was changed by somebody else meanwhile. Send it once more.',
    ],
    [
      { at: 'batch', status: 404, error: '' },
      'source: HOST does not know alice/small any more. Press “See what will be sent” again.',
    ],
  ] as const)('refused: %o', async (refuse, sentence) => {
    await make(parcel(), reach())
    hub.writing.switches.refuse = { ...refuse }
    expect(await said(sendAll())).toBe(sentence)
  })
  test('one object refused in the batch', async () => {
    await make(parcel(), reach())
    hub.writing.switches.objectError = { code: 403, message: 'You are over your storage quota\n<b>' }
    expect(await said(sendAll())).toBe(
      'limit: HOST has no room left for alice/small: “You are over your storage quota <b>”. Free some there, or send a smaller model.',
    )
  })
  test('a name that was taken meanwhile', async () => {
    await make(parcel(), reach())
    expect(await said(make(parcel(), reach()))).toBe(
      'source: There is a repository alice/small on HOST by now. Press “See what will be sent” again, or choose another name.',
    )
  })
  test('no sentence has the token in it', async () => {
    const sentences = [
      await said(destination('small', reach({ token: 'hf_secret' }))),
      await said(make(parcel(), reach({ token: 'hf_secret' }))),
      await said(sendAll({ token: 'hf_secret' })),
      await said(destination('small', reach({ token: 'hf_secret', hub: 'http://127.0.0.1:9' }))),
    ]
    expect(sentences.join()).not.toContain('secret')
  })
})

describe('what was sent before', () => {
  const object = (over: object = {}) => ({
    oid: 'o',
    size: 2,
    actions: { upload: { href: 'end', header: { chunk_size: '1', 1: 'a', 2: 'b' }, ...over } },
  })
  const fresh = () => ({
    objects: [{ ...object(), actions: { upload: { href: 'x', header: { chunk_size: '1', 1: 'c', 2: 'd' } } } }],
  })

  test('addresses of before are used again as long as they are valid, in the same repository', () => {
    sent.recall('batch', { objects: [object({ expires_in: 600 })] }, 0)
    sent.keep('a', 'tag')
    expect(sent.recall('batch', fresh(), 500_000).objects[0]!.actions!.upload!.href).toBe('end')
    expect(sent.recall('another', fresh(), 500_000).objects[0]!.actions!.upload!.href).toBe('x')
    expect(sent.tag('a')).toBe('tag')
    expect(sent.recall('batch', fresh(), 560_000).objects[0]!.actions!.upload!.href).toBe('x')
    expect(sent.tag('a')).toBeNull()
  })
  test('dates, no date, and nothing taken yet', () => {
    sent.recall('batch', { objects: [object({ expires_at: '2026-01-01T00:00:00Z' })] }, 0)
    expect(sent.recall('batch', fresh(), 0).objects[0]!.actions!.upload!.href).toBe('x')
    sent.keep('c', 'tag')
    expect(sent.recall('batch', { objects: [object()] }, 9e15).objects[0]!.actions!.upload!.href).toBe('x')
  })
  test('a file that the hub has is forgotten, and so is one whose addresses ran out', () => {
    sent.recall('batch', { objects: [object()] })
    sent.keep('a', 'tag')
    sent.recall('batch', { objects: [{ oid: 'o', size: 2 }] })
    expect(sent.tag('a')).toBeNull()
    sent.recall('batch', { objects: [object()] })
    sent.keep('a', 'tag')
    sent.drop('b')
    expect(sent.tag('a')).toBeNull()
  })
})

describe('the card and the picture', () => {
  test('the picture comes before the first section, and the origin into the head', () => {
    const card = '---\nlibrary_name: transformers\n---\n\n# m\n\nWords.\n\n## What it cost\n\n## Layers\n'
    expect(cardWith(card, { alt: 'a [b]', base: 'org/m' })).toBe(
      '---\nbase_model: org/m\nlibrary_name: transformers\n---\n\n# m\n\nWords.\n\n![a  b ](similarity.png)\n\n## What it cost\n\n## Layers\n',
    )
    expect(cardWith('plain', { alt: 'a', base: 'org/m' })).toBe('plain\n\n![a](similarity.png)\n\n')
  })
  test('the origin is a repository of the same hub or none', () => {
    const origin = (url: string) => ({
      origin: { folder: 'm', files: [{ name: 'f', url, size: 1 }] } as unknown as Opened,
    })
    expect(baseModel(origin('https://h.co/org/m/resolve/main/f'), 'https://h.co')).toBe('org/m')
    expect(baseModel(origin('https://h.co.evil/org/m/resolve/main/f'), 'https://h.co')).toBeNull()
    expect(baseModel(origin('https://h.co/x.gguf'), 'https://h.co')).toBeNull()
    expect(baseModel({ origin: 'demo' }, 'https://h.co')).toBeNull()
  })
  test('a GGUF file gets a card of its own, with the numbers of the report', async () => {
    const report = await goldenPlan(7)
    const recipe = recipeOf({ model: stored.model, maps: stored, plan: report, options: planOptions })!
    const card = cardOf(recipe, report)
    expect(card).toMatch(/^---\npipeline_tag: text-generation\ntags:\n- gguf\n/)
    expect(card).toContain(`# ${stored.model.name} with 5 of 12 layers`)
    expect(card).toContain(`| this model | ${report.merged.perplexity.toFixed(3)} |`)
    expect(card).toContain('| 1 | 1, 2, 3 |')
  })
  test('the picture stands alone: a square a pair, a frame a group, the name escaped', async () => {
    const { plan } = await goldenPlan(7)
    const svg = matrixSvg(stored, plan.groups, 'a <b> & c')
    expect(
      svg.match(
        /<rect x="\d+" y="\d+" width="47" height="47" fill="rgb|<rect x="\d+" y="\d+" width="47" height="47" fill="#/g,
      ),
    ).toHaveLength(144)
    const [, frames] = /stroke="#ffffff" stroke-width="2">(.*?)<\/g>/.exec(svg)!
    expect(frames!.match(/<rect/g)).toHaveLength(plan.groups.filter(group => group.length > 1).length)
    expect(svg).toContain('<title>a &lt;b&gt; &amp; c</title>')
    expect(svg).not.toMatch(/NaN|undefined/)
  })
})

test('a web page is no sentence of a hub', async () => {
  expect(await saidBy(new Response('<html>busy</html>', { status: 500 }))).toBe('')
  expect(await saidBy(new Response('Full.\nReally.', { status: 500 }))).toBe('Full. Really')
  expect(await saidBy(new Response(JSON.stringify({ error: 'x'.repeat(300) })))).toHaveLength(200)
})

test('the checksum that the hub asks for is that of the bytes', async () => {
  await make(parcel(), reach())
  await sendAll()
  expect([...hub.writing.verified]).toEqual([createHash('sha256').update(weights).digest('hex')])
})

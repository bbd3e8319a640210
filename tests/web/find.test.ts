import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { toEngineError } from '../../www/engine/errors'
import { fileUrl, parseAddress, parseEndpoint } from '../../www/open/remote/address'
import { refuseSomeParts, shardNames } from '../../www/engine/source'
import { modelsAmong } from '../../www/open/remote/candidates'
import { find, opened } from '../../www/open/remote/find'
import { Hub } from './hub'

const HF = 'https://huggingface.co'
const parsed = (text: string, endpoint = HF) => {
  const address = parseAddress(text, endpoint)
  return address.kind === 'file' ? address.url.href : [address.hub, address.name, address.revision, address.path]
}

describe('what the user may type', () => {
  test.each([
    ['HuggingFaceTB/SmolLM2-135M-Instruct', ['HuggingFaceTB/SmolLM2-135M-Instruct', 'main', '']],
    ['  org/name ', ['org/name', 'main', '']],
    ['org/name@v1.0', ['org/name', 'v1.0', '']],
    ['org/name@refs/pr/1', ['org/name', 'refs/pr/1', '']],
    ['org/name@refs/pr/1/a/b.gguf', ['org/name', 'refs/pr/1', 'a/b.gguf']],
    ['org/name/path/file.gguf', ['org/name', 'main', 'path/file.gguf']],
    ['org/name@dev/path/', ['org/name', 'dev', 'path']],
    ['https://huggingface.co/org/name', ['org/name', 'main', '']],
    ['https://huggingface.co/org/name/tree/dev/sub', ['org/name', 'dev', 'sub']],
    ['https://huggingface.co/org/name/blob/main/a.gguf', ['org/name', 'main', 'a.gguf']],
    [
      'https://huggingface.co/org/name/resolve/refs%2Fpr%2F1/a%20b.gguf?download=true',
      ['org/name', 'refs/pr/1', 'a b.gguf'],
    ],
    ['https://huggingface.co/org/name/discussions/3', ['org/name', 'main', '']],
    ['https://hf.co/org/name', ['org/name', 'main', '']],
    ['huggingface.co/org/name', ['org/name', 'main', '']],
  ])('%s', (text, rest) => expect(parsed(text)).toEqual([HF, ...rest]))

  test('another endpoint, and addresses of the hub in spite of it', () => {
    expect(parsed('org/name', 'http://localhost:8080/hub/')).toEqual([
      'http://localhost:8080/hub',
      'org/name',
      'main',
      '',
    ])
    expect(parsed('http://localhost:8080/hub/org/name/tree/x', 'http://localhost:8080/hub')).toEqual([
      'http://localhost:8080/hub',
      'org/name',
      'x',
      '',
    ])
    expect(parsed(`${HF}/org/name`, 'http://localhost:8080')).toEqual([HF, 'org/name', 'main', ''])
  })
  test('a file anywhere', () => {
    expect(parsed('https://example.com/m/a.gguf?key=1')).toBe('https://example.com/m/a.gguf?key=1')
    expect(parsed('http://127.0.0.1:9/model.safetensors')).toBe('http://127.0.0.1:9/model.safetensors')
  })
  test.each([
    ['', 'Name a repository as organisation/name, or the address of a .gguf or .safetensors file.'],
    ['gpt2', '"gpt2" is neither a repository nor an address.'],
    [
      'http://example.com/a.gguf',
      'http://example.com is not secure. Use an address that begins with https://, or one of this computer.',
    ],
    [
      'https://me:word@example.com/a.gguf',
      'example.com: an address with a password in it cannot be read from a page. Give a token instead.',
    ],
    ['ftp://example.com/a.gguf', 'ftp://example.com is not secure.'],
    ['https://example.com/model', 'example.com/model does not end in .gguf or .safetensors.'],
    ['https://huggingface.co/datasets/org/name', 'is not a model.'],
    ['https://huggingface.co/org', 'names no repository.'],
  ])('"%s" is refused in a sentence', (text, sentence) => {
    expect(() => parseAddress(text, HF)).toThrow(sentence)
  })
  test.each([
    ['huggingface.co', 'is not an address'],
    ['http://example.com', 'is not secure'],
  ])('the server "%s"', (text, sentence) => {
    expect(() => parseEndpoint(text)).toThrow(sentence)
  })
  test('addresses of files are written with care', () => {
    const address = parseAddress('org/name@refs/pr/1', HF)
    expect(address.kind === 'repository' && fileUrl(address, 'a b/c#.gguf')).toBe(
      `${HF}/org/name/resolve/refs%2Fpr%2F1/a%20b/c%23.gguf`,
    )
  })
})

describe('which files make a model', () => {
  const listed = (...paths: string[]) => paths.map((path, i) => ({ path, size: 10 * (i + 1) }))
  const sets = (paths: string[], path = '') =>
    modelsAmong(listed(...paths), path).map(({ label, files, missing }) => [
      label,
      files.map(file => file.path),
      missing,
    ])

  test('split names', () => {
    expect(shardNames('m-00002-of-00003.gguf')).toEqual([
      'm-00001-of-00003.gguf',
      'm-00002-of-00003.gguf',
      'm-00003-of-00003.gguf',
    ])
    expect(shardNames('m.gguf')).toEqual(['m.gguf'])
  })
  test('of a model in parts all are chosen together, as a part cannot be added', () => {
    const files = (...names: string[]) => ({
      folder: undefined,
      files: names.map(name => ({ name, file: new File([], name) })),
    })
    const [one, two, three] = shardNames('m-00001-of-00003.gguf') as [string, string, string]
    expect(() => refuseSomeParts(files(one))).toThrow(
      'This is one part of a model in 3. Choose or drop all 3 together: m-00001-of-00003.gguf to m-00003-of-00003.gguf.',
    )
    expect(() => refuseSomeParts(files(three, one))).toThrow('These are 2 parts of a model in 3.')
    expect(() => refuseSomeParts(files('config.json', 'model-00002-of-00002.safetensors'))).toThrow(
      'Choose or drop both together: model-00001-of-00002.safetensors to model-00002-of-00002.safetensors, with the files beside them.',
    )
    for (const whole of [files(three, one, two), files('m.gguf'), files(), { ...files(one), folder: 'm' }])
      expect(() => refuseSomeParts(whole)).not.toThrow()
  })
  test('a folder of safetensors: what the engine reads, and no other layout of the same weights', () => {
    expect(
      sets([
        'README.md',
        'config.json',
        'model.safetensors',
        'consolidated.safetensors',
        'pytorch_model.bin',
        'tokenizer.json',
        'onnx/config.json',
        'onnx/model.onnx',
      ]),
    ).toEqual([['safetensors', ['config.json', 'tokenizer.json', 'model.safetensors'], null]])
  })
  test('shards with their index', () => {
    expect(
      sets([
        'config.json',
        'model-00001-of-00002.safetensors',
        'model-00002-of-00002.safetensors',
        'model.safetensors.index.json',
      ]),
    ).toEqual([
      [
        'safetensors',
        [
          'config.json',
          'model.safetensors.index.json',
          'model-00001-of-00002.safetensors',
          'model-00002-of-00002.safetensors',
        ],
        null,
      ],
    ])
  })
  test('parts of another name are those of the index', () => {
    expect(
      sets([
        'config.json',
        'w-00001-of-00002.safetensors',
        'w-00002-of-00002.safetensors',
        'model.safetensors.index.json',
      ])[0]![1],
    ).toHaveLength(4)
    expect(sets(['config.json', 'w-00001-of-00002.safetensors', 'w-00002-of-00002.safetensors'])).toEqual([])
  })
  test('each GGUF is one, split ones too, projectors are none', () => {
    expect(
      sets([
        'a-Q4.gguf',
        'mmproj-a.gguf',
        'big/a-00002-of-00002.gguf',
        'big/a-00001-of-00002.gguf',
        'config.json',
        'model.safetensors',
      ]).map(([label]) => label),
    ).toEqual(['safetensors', 'a-Q4.gguf', 'big/a-00001-of-00002.gguf'])
  })
  test('a part that is missing is named', () => {
    expect(sets(['a-00001-of-00003.gguf', 'a-00003-of-00003.gguf'])[0]![2]).toBe('a-00002-of-00003.gguf')
    expect(sets(['config.json', 'model-00002-of-00002.safetensors'])[0]![2]).toBe('model-00001-of-00002.safetensors')
  })
  test('a path chooses', () => {
    const all = [
      'x/a.gguf',
      'y/b-00001-of-00002.gguf',
      'y/b-00002-of-00002.gguf',
      'config.json',
      'model.safetensors',
      'z/config.json',
      'z/model.safetensors',
    ]
    expect(sets(all, 'x').map(([label]) => label)).toEqual(['x/a.gguf'])
    expect(sets(all, 'y/b-00002-of-00002.gguf')).toEqual([
      ['y/b-00001-of-00002.gguf', ['y/b-00001-of-00002.gguf', 'y/b-00002-of-00002.gguf'], null],
    ])
    expect(sets(all, 'model.safetensors').map(([label]) => label)).toEqual(['safetensors'])
    expect(sets(all, 'z').map(([, files]) => files)).toEqual([['z/config.json', 'z/model.safetensors']])
    expect(sets(all, 'nowhere')).toEqual([])
  })
  test('folders below count only where the top has none', () => {
    expect(
      sets(['a/config.json', 'a/model.safetensors', 'b/config.json', 'b/model.safetensors']).map(([label]) => label),
    ).toEqual(['a/', 'b/'])
  })
})

describe('looking up', () => {
  const bytes = new Uint8Array(2000)
  let hub: Hub
  beforeAll(async () => {
    hub = await new Hub({
      'org/both': {
        'config.json': bytes,
        'tokenizer.json': bytes,
        'model.safetensors': bytes,
        'm-Q8_0.gguf': bytes,
        'x/m-00001-of-00002.gguf': bytes,
        'x/m-00002-of-00002.gguf': bytes,
      },
      'org/none': { 'README.md': bytes },
    }).start()
  })
  afterAll(() => hub.stop())
  beforeEach(() => {
    hub.asked.length = 0
    Object.assign(hub.switches, { token: null, failures: [] })
  })
  const look = (text: string, token = '', endpoint = hub.url) =>
    find(text, { endpoint, token, signal: null, patience: { tries: 3, pauseMs: 1, longestPauseMs: 10, stallMs: 500 } })
  const said = async (text: string, token = '') =>
    toEngineError(await look(text, token).catch((error: unknown) => error)).message.replaceAll(
      /127\.0\.0\.1:\d+/g,
      'HOST',
    )

  test('every page of a list, then the models in it with their sizes', async () => {
    const { where, candidates } = await look('org/both')
    expect(where).toBe('org/both')
    expect(candidates.map(({ label, name, bytes }) => [label, name, bytes])).toEqual([
      ['safetensors', 'both', 6000],
      ['m-Q8_0.gguf', 'm-Q8_0', 2000],
      ['x/m-00001-of-00002.gguf', 'm', 4000],
    ])
    expect(hub.paths()).toHaveLength(3)
    expect(opened(candidates[2]!)).toEqual({
      folder: 'm',
      files: [1, 2].map(i => ({
        name: `m-0000${i}-of-00002.gguf`,
        url: `${hub.url}/org/both/resolve/main/x/m-0000${i}-of-00002.gguf`,
        size: 2000,
        token: undefined,
      })),
    })
  })
  test('a revision with slashes', async () => {
    await look('org/both@refs/pr/1')
    expect(hub.paths()[0]).toMatch(/^\/api\/models\/org\/both\/tree\/refs%2Fpr%2F1\?recursive=true/)
  })
  test('the token goes to the server it was given for, in any form', async () => {
    hub.switches.token = 'not-a-hub-token'
    const { candidates } = await look('org/both', ' not-a-hub-token ')
    expect(candidates[0]!.files[0]!.token).toBe('not-a-hub-token')
    expect(await said('org/both')).toBe(
      'org/both: HOST asks who you are (status 401): it is private, or it does not exist. Check the spelling, or give a token that may read it.',
    )
  })
  test('and to no other', async () => {
    const { candidates } = await look(`${hub.url}/x/a.gguf`, 'secret', 'https://hub.example')
    expect(candidates[0]!.files.map(file => file.token)).toEqual([undefined])
  })
  test('failures that pass', async () => {
    hub.switches.failures = [{ status: 503 }]
    hub.switches.spoiled = [{ how: 'truncate', after: 9 }]
    expect((await look('org/both')).candidates).toHaveLength(3)
  })
  test.each([
    [
      'org/nobody',
      'org/nobody: HOST has no such thing (status 404). Check the spelling of the repository, the revision and the file.',
    ],
    [
      'org/none',
      'org/none holds no model that can be read here: there is no .gguf file, and no config.json beside .safetensors files. Name another repository.',
    ],
    ['org/both/nowhere.gguf', 'org/both/nowhere.gguf is not in the repository. Check the spelling of the path.'],
  ])('%s', async (text, sentence) => expect(await said(text)).toBe(sentence))

  test('an address: its parts, and what lies beside safetensors', async () => {
    const names = async (path: string) => (await look(`https://example.com/models/tiny/${path}`)).candidates[0]!
    expect((await names('m-00002-of-00002.gguf')).files.map(file => file.url)).toEqual(
      [1, 2].map(i => `https://example.com/models/tiny/m-0000${i}-of-00002.gguf`),
    )
    const folder = await names('model-00001-of-00002.safetensors?key=1')
    expect(folder.name).toBe('tiny')
    expect(folder.files.filter(file => !file.optional).map(file => file.name)).toEqual([
      'config.json',
      'tokenizer.json',
      'model.safetensors.index.json',
      'model-00001-of-00002.safetensors',
      'model-00002-of-00002.safetensors',
    ])
    expect(folder.files[0]!.url).toBe('https://example.com/models/tiny/config.json?key=1')
  })
  test('a model that is not whole is not opened', () => {
    expect(() =>
      opened({ label: 'a', name: 'a', container: 'gguf', bytes: 1, files: [], missing: 'a-00002-of-00002.gguf' }),
    ).toThrow('a-00002-of-00002.gguf is missing in the repository')
  })
})

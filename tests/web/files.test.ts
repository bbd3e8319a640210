import { beforeEach, describe, expect, test, vi } from 'vitest'
import { saying, toEngineError, withoutDebug } from '../../www/engine/errors'
import { preferenceFrom } from '../../www/engine/features'
import { DirectoryFolder, newFolder, PrivateFolder, SingleFile } from '../../www/engine/sink'
import { FileSource, fromFileList, withoutCommonFolder } from '../../www/engine/source'
import { gigabytes, neededSpace } from '../../www/engine/space'
import { pack, packJob, writeTo } from '../../www/engine/write'
import { MockEngine } from './mock/engine'
import { MemoryDirectory } from './memory'
import { goldenPlan } from './stored'

const named = (...names: string[]) => names.map(name => ({ name, file: new File(['x'], name.split('/').at(-1)!) }))

describe('reading', () => {
  const source = new FileSource('weights.bin', new Blob([new Uint8Array([0, 1, 2, 3, 4, 5])]))
  test('ranges', async () => {
    expect([...(await source.read(2, 3))]).toEqual([2, 3, 4])
    expect([...(await source.read(6, 0))]).toEqual([])
  })
  test.each([
    [4, 3],
    [-1, 2],
    [7, 0],
    [0, NaN],
  ])('a range of %d + %d bytes is refused by name', async (offset, length) => {
    await expect(source.read(offset, length)).rejects.toMatchObject({
      kind: 'source',
      message: expect.stringContaining('weights.bin'),
    })
  })
  test('a file that vanished', async () => {
    const gone = {
      size: 9,
      slice: () => ({ arrayBuffer: () => Promise.reject(new DOMException('gone', 'NotReadableError')) }),
    } as unknown as Blob
    await expect(new FileSource('a', gone).read(0, 9)).rejects.toMatchObject({
      kind: 'source',
      message: 'a changed or vanished while it was being read. Open the model again.',
    })
  })
  test("the folder's name is taken off, hidden files are left out", () => {
    const opened = withoutCommonFolder(named('m/config.json', 'm/.git/HEAD', 'm/sub/a.json', 'm/.DS_Store'))
    expect([opened.folder, opened.files.map(f => f.name)]).toEqual(['m', ['config.json', 'sub/a.json']])
  })
  test('loose files have no folder', () => {
    expect(fromFileList(named('b.safetensors', 'a.json').map(f => f.file)).folder).toBeUndefined()
  })
  test("GGUF files go on to the engine as they are, alone, in parts and beside a folder's own", () => {
    const loose = fromFileList(named('m-00002-of-00002.gguf', 'm-00001-of-00002.gguf').map(f => f.file))
    expect([loose.folder, loose.files.map(f => f.name)]).toEqual([
      undefined,
      ['m-00001-of-00002.gguf', 'm-00002-of-00002.gguf'],
    ])
    expect(
      withoutCommonFolder(named('m/config.json', 'm/q/m.gguf', 'm/model.safetensors')).files.map(f => f.name),
    ).toEqual(['config.json', 'model.safetensors', 'q/m.gguf'])
  })
  test('a home directory is refused', () => {
    expect(() => withoutCommonFolder(named(...Array.from({ length: 5001 }, (_, i) => `h/${i}`)))).toThrow(/5000 files/)
  })
})

describe('writing into a folder', () => {
  let parent: MemoryDirectory
  beforeEach(() => {
    parent = new MemoryDirectory('models')
  })
  const begin = async () => {
    const inner = await newFolder(parent.handle, 'small')
    return { inner: parent.directory('small'), folder: new DirectoryFolder(parent.handle, inner) }
  }

  test('files have their final names only after commit, config.json last', async () => {
    const { inner, folder } = await begin()
    for (const name of ['config.json', 'model.safetensors']) {
      await folder.create(name)
      await folder.write(new Uint8Array([1, 2, 3]))
      await folder.close()
    }
    expect(inner.names()).toEqual(['config.json.part', 'model.safetensors.part'])
    expect([await folder.size('config.json'), [...(await folder.read('config.json', 1, 2))]]).toEqual([3, [2, 3]])
    await folder.commit()
    expect(inner.names()).toEqual(['model.safetensors', 'config.json'])
    expect(await folder.size('config.json')).toBe(3)
  })
  test('a browser that cannot rename copies', async () => {
    const { inner, folder } = await begin()
    inner.movable = false
    await folder.create('config.json')
    await folder.write(new Uint8Array([7]))
    await folder.close()
    await folder.commit()
    expect(inner.names()).toEqual(['config.json'])
    expect([...(await folder.read('config.json', 0, 1))]).toEqual([7])
  })
  test('abort leaves nothing, in the middle of a file too', async () => {
    const { folder } = await begin()
    await folder.create('config.json')
    await folder.write(new Uint8Array([1]))
    await folder.abort()
    expect(parent.names()).toEqual([])
  })
  test('a folder that exists is never written into', async () => {
    await begin()
    expect((await newFolder(parent.handle, 'small')).name).toBe('small-2')
  })
  test('a folder that cannot be written is named', async () => {
    const { plan } = await goldenPlan(1)
    const engine = new MockEngine('cpu')
    await engine.openDemo()
    const folder = await newFolder(parent.handle, 'small')
    parent.directory('small').locked = true
    const error = await writeTo(
      engine,
      [
        plan,
        { dtype: 'keep', max_shard_bytes: 5e9, container: 'safetensors' },
        { kind: 'directory', parent: parent.handle, folder },
      ],
      async () => false,
    ).catch(toEngineError)
    expect(error).toEqual({
      kind: 'source',
      message: 'config.json cannot be written: it is locked or read-only. Choose another folder.',
    })
    expect(parent.names()).toEqual([])
  })
  test.each(['../x', 'a/b', '', '.hidden'])('the name "%s" is refused', async name => {
    const { folder } = await begin()
    await expect(folder.create(name)).rejects.toMatchObject({ kind: 'usage' })
  })
})

describe('writing one file', () => {
  let parent: MemoryDirectory
  const file = async () => new SingleFile(await parent.handle.getFileHandle('small.gguf', { create: true }))
  beforeEach(() => {
    parent = new MemoryDirectory('models')
  })

  test('it is read back from where it lies', async () => {
    const single = await file()
    await single.create('model.gguf')
    await single.write(new Uint8Array([1, 2, 3]))
    await single.close()
    await single.commit()
    expect([await single.size(), [...(await single.read('model.gguf', 1, 2))]]).toEqual([3, [2, 3]])
  })
  test.each([
    ['in the middle', false],
    ['after a failed check', true],
  ])('abort %s leaves nothing', async (_, closed) => {
    const single = await file()
    await single.create('model.gguf')
    await single.write(new Uint8Array([1]))
    if (closed) await single.close()
    await single.abort()
    expect(parent.names()).toEqual([])
  })
  test('a second file is refused', async () => {
    const single = await file()
    await single.create('model-00001-of-00002.gguf')
    await single.close()
    await expect(single.create('model-00002-of-00002.gguf')).rejects.toMatchObject({
      kind: 'usage',
      message: expect.stringContaining('needs a second file, model-00002'),
    })
  })
})

describe('how much room is needed', () => {
  test('a zip doubles the largest file, a stream does not', () => {
    expect(neededSpace(5e9, 5e9, true)).toBe(10e9 + 16e6)
    expect(neededSpace(5e9, 1e9, true)).toBe(6e9 + 16e6)
    expect(neededSpace(5e9, 5e9, false)).toBe(5e9 + 16e6)
    expect([1e6, 99e6, 5.04e9].map(gigabytes)).toEqual(['1 MB', '99 MB', '5.0 GB'])
  })
})

describe('writing a zip', () => {
  let storage: MemoryDirectory
  beforeEach(() => {
    storage = new MemoryDirectory('storage')
    vi.stubGlobal('navigator', {
      storage: { getDirectory: async () => storage.handle, estimate: async () => ({ quota: 1e9, usage: 0 }) },
    })
  })
  const target = { kind: 'private', job: 'job', needed_bytes: 1e6 } as const
  const options = { dtype: 'keep', max_shard_bytes: 5e9, container: 'safetensors' } as const
  const engineWithDemo = async () => {
    const engine = new MockEngine('cpu')
    await engine.openDemo()
    return engine
  }

  test('one store-only zip, and only it, is left', async () => {
    const { plan } = await goldenPlan(7)
    const report = await writeTo(await engineWithDemo(), [plan, options, target], async () => false)
    expect(storage.directory('laminate').directory('job').names()).toHaveLength(report.files.length)
    const zip = await packJob('job', 'small', async () => false)
    expect(storage.directory('laminate').directory('job').names()).toEqual(['small.zip'])
    const bytes = new Uint8Array(await zip.arrayBuffer())
    expect([...bytes.slice(0, 4)]).toEqual([0x50, 0x4b, 3, 4])
    expect(new DataView(bytes.buffer).getUint16(8, true)).toBe(0)
    expect(new TextDecoder('latin1').decode(bytes)).toContain('small/model.safetensors')
    expect(zip.size).toBeGreaterThan(report.files.reduce((sum, file) => sum + file.bytes, 0))
  })
  test.each([1, 3, 9])('cancelled at event %d, nothing is left', async stopAt => {
    const { plan } = await goldenPlan(7)
    let events = 0
    const observe = async () => ++events >= stopAt
    await expect(writeTo(await engineWithDemo(), [plan, options, target], observe)).rejects.toMatchObject({
      kind: 'cancelled',
    })
    expect(storage.directory('laminate').names()).toEqual([])
  })
  test('a full disk is said before any work', async () => {
    const { plan } = await goldenPlan(7)
    await expect(
      writeTo(await engineWithDemo(), [plan, options, { ...target, needed_bytes: 5e9 }], async () => false),
    ).rejects.toMatchObject({
      kind: 'limit',
      message: expect.stringContaining('gives the page 1.0 GB of disk and the model needs 5.0 GB there'),
    })
  })
  test('a disk that fills up half-way leaves nothing', async () => {
    const { plan } = await goldenPlan(7)
    storage.room = 200_000
    const error = await writeTo(await engineWithDemo(), [plan, options, target], async () => false).catch(toEngineError)
    expect(error).toMatchObject({
      kind: 'limit',
      message: expect.stringMatching(/^model\.safetensors does not fit: .* full/),
    })
    expect(storage.directory('laminate').names()).toEqual([])
  })
  test('a file alone needs no zip', async () => {
    const folder = new PrivateFolder(
      await (
        await storage.handle.getDirectoryHandle('laminate', { create: true })
      ).getDirectoryHandle('job', { create: true }),
    )
    await folder.create('model.gguf')
    await folder.write(new Uint8Array(9))
    await folder.close()
    const file = await packJob('job', 'small', async () => false)
    expect([file.name, file.size]).toEqual(['model.gguf', 9])
  })
  test('packing without room for it removes the job', async () => {
    const { plan } = await goldenPlan(7)
    await writeTo(await engineWithDemo(), [plan, options, target], async () => false)
    vi.stubGlobal('navigator', {
      storage: { getDirectory: async () => storage.handle, estimate: async () => ({ quota: 1e6, usage: 0 }) },
    })
    await expect(packJob('job', 'small', async () => false)).rejects.toMatchObject({ kind: 'limit' })
    expect(storage.directory('laminate').names()).toEqual([])
  })
  test('packing can be cancelled', async () => {
    const folder = new PrivateFolder(storage.handle)
    await folder.create('a.bin')
    await folder.write(new Uint8Array(500_000))
    await folder.close()
    await expect(pack(storage.handle, folder.names(), 'small', async () => true)).rejects.toMatchObject({
      kind: 'cancelled',
    })
  })
})

describe('errors and addresses', () => {
  test('an error of the engine is shown as a sentence', () => {
    expect(saying({ kind: 'cancelled', message: 'cancelled; nothing was written' })).toBe(
      'Cancelled; nothing was written.',
    )
    expect(saying({ kind: 'format', message: 'model.safetensors: the header is cut short' })).toBe(
      'model.safetensors: the header is cut short.',
    )
    expect(saying(new TypeError('x is undefined'))).toBe(
      'The engine stopped unexpectedly (x is undefined). Its state was discarded; run the step again.',
    )
  })
  test('what a graphics library prints of itself stays out', () => {
    expect(withoutDebug('no GPU can be used: RequestAdapterError { active_backends: BROWSER_WEBGPU }')).toBe(
      'no GPU can be used',
    )
    expect(
      saying({
        kind: 'device',
        message: 'no GPU can be used (RequestAdapterError(NotFound { x: (1) })); choose the CPU',
      }),
    ).toBe('No GPU can be used; choose the CPU.')
    expect(withoutDebug('no GPU can be used: there is no graphics adapter')).toBe(
      'no GPU can be used: there is no graphics adapter',
    )
    expect(withoutDebug('you chose the CPU')).toBe('you chose the CPU')
  })
  test('what is thrown becomes one sentence', () => {
    expect(toEngineError(new DOMException('', 'QuotaExceededError')).kind).toBe('limit')
    expect(toEngineError(new DOMException('', 'AbortError')).kind).toBe('cancelled')
    expect(toEngineError(new DOMException('', 'NotAllowedError')).message).toContain('refused access')
    expect(toEngineError(new Error('unreachable\n  at wasm')).message).toBe(
      'The engine stopped unexpectedly (unreachable). Its state was discarded; run the step again.',
    )
    expect(toEngineError({ kind: 'shape', message: 'm' })).toEqual({ kind: 'shape', message: 'm' })
    expect(toEngineError({ kind: 'nonsense', message: 'm' }).kind).toBe('internal')
  })
  test('the device in the address', () => {
    expect(['?device=cpu', '?device=gpu', '?device=toaster', ''].map(preferenceFrom)).toEqual([
      'cpu',
      'gpu',
      'auto',
      'auto',
    ])
  })
})

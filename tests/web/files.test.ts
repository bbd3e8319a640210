import { beforeEach, describe, expect, test, vi } from 'vitest'
import { toEngineError } from '../../www/engine/errors'
import { preferenceFrom } from '../../www/engine/features'
import { DirectoryFolder, newFolder, PrivateFolder } from '../../www/engine/sink'
import { FileSource, fromFileList, withoutCommonFolder } from '../../www/engine/source'
import { pack, writeTo } from '../../www/engine/write'
import { MockEngine } from './mock/engine'
import { MemoryDirectory } from './memory'
import { goldenPlan } from './stored'

const named = (...names: string[]) => names.map(name => ({ name, file: new File(['x'], name.split('/').at(-1)!) }))

describe('reading', () => {
  const source = new FileSource('weights.bin', new Blob([new Uint8Array([0, 1, 2, 3, 4, 5])]))
  test('ranges', async () => {
    expect([...await source.read(2, 3)]).toEqual([2, 3, 4])
    expect([...await source.read(6, 0)]).toEqual([])
  })
  test.each([[4, 3], [-1, 2], [7, 0], [0, NaN]])('a range of %d + %d bytes is refused by name', async (offset, length) => {
    await expect(source.read(offset, length)).rejects.toMatchObject({ kind: 'source', message: expect.stringContaining('weights.bin') })
  })
  test('a file that vanished', async () => {
    const gone = { size: 9, slice: () => ({ arrayBuffer: () => Promise.reject(new DOMException('gone', 'NotReadableError')) }) } as unknown as Blob
    await expect(new FileSource('a', gone).read(0, 9)).rejects.toMatchObject({ kind: 'source', message: 'a changed or vanished while it was being read. Open the model again.' })
  })
  test('the folder\'s name is taken off, hidden files are left out', () => {
    const opened = withoutCommonFolder(named('m/config.json', 'm/.git/HEAD', 'm/sub/a.json', 'm/.DS_Store'))
    expect([opened.folder, opened.files.map(f => f.name)]).toEqual(['m', ['config.json', 'sub/a.json']])
  })
  test('loose files have no folder', () => {
    expect(fromFileList(named('b.safetensors', 'a.json').map(f => f.file)).folder).toBeUndefined()
  })
  test('a home directory is refused', () => {
    expect(() => withoutCommonFolder(named(...Array.from({ length: 5001 }, (_, i) => `h/${i}`)))).toThrow(/5000 files/)
  })
})

describe('writing into a folder', () => {
  let parent: MemoryDirectory
  beforeEach(() => { parent = new MemoryDirectory('models') })
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
    expect([await folder.size('config.json'), [...await folder.read('config.json', 1, 2)]]).toEqual([3, [2, 3]])
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
    expect([...await folder.read('config.json', 0, 1)]).toEqual([7])
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
    const error = await writeTo(engine, [plan, { dtype: 'keep', max_shard_bytes: 5e9 }, { kind: 'directory', parent: parent.handle, folder }], async () => false).catch(toEngineError)
    expect(error).toEqual({ kind: 'source', message: 'config.json cannot be written: it is locked or read-only. Choose another folder.' })
    expect(parent.names()).toEqual([])
  })
  test.each(['../x', 'a/b', '', '.hidden'])('the name "%s" is refused', async name => {
    const { folder } = await begin()
    await expect(folder.create(name)).rejects.toMatchObject({ kind: 'usage' })
  })
})

describe('writing a zip', () => {
  let storage: MemoryDirectory
  beforeEach(() => {
    storage = new MemoryDirectory('storage')
    vi.stubGlobal('navigator', { storage: { getDirectory: async () => storage.handle, estimate: async () => ({ quota: 1e9, usage: 0 }) } })
  })
  const target = { kind: 'zip', job: 'job', name: 'small', expected_bytes: 1e6 } as const
  const options = { dtype: 'keep', max_shard_bytes: 5e9 } as const
  const engineWithDemo = async () => {
    const engine = new MockEngine('cpu')
    await engine.openDemo()
    return engine
  }

  test('one store-only zip, and only it, is left', async () => {
    const { plan } = await goldenPlan(7)
    const { report, zip } = await writeTo(await engineWithDemo(), [plan, options, target], async () => false)
    expect(storage.directory('laminate').directory('job').names()).toEqual(['small.zip'])
    const bytes = new Uint8Array(await zip!.arrayBuffer())
    expect([...bytes.slice(0, 4)]).toEqual([0x50, 0x4b, 3, 4])
    expect(new DataView(bytes.buffer).getUint16(8, true)).toBe(0)
    expect(new TextDecoder('latin1').decode(bytes)).toContain('small/model.safetensors')
    expect(zip!.size).toBeGreaterThan(report.files.reduce((sum, file) => sum + file.bytes, 0))
  })
  test.each([1, 3, 9])('cancelled at event %d, nothing is left', async stopAt => {
    const { plan } = await goldenPlan(7)
    let events = 0
    await expect(writeTo(await engineWithDemo(), [plan, options, target], async () => ++events >= stopAt)).rejects.toMatchObject({ kind: 'cancelled' })
    expect(storage.directory('laminate').names()).toEqual([])
  })
  test('a full disk is said before any work', async () => {
    const { plan } = await goldenPlan(7)
    await expect(writeTo(await engineWithDemo(), [plan, options, { ...target, expected_bytes: 5e9 }], async () => false))
      .rejects.toMatchObject({ kind: 'limit', message: expect.stringContaining('gives the page 1.0 GB of disk and packing the zip needs 10.0 GB') })
  })
  test('a disk that fills up half-way leaves nothing', async () => {
    const { plan } = await goldenPlan(7)
    storage.room = 200_000
    const error = await writeTo(await engineWithDemo(), [plan, options, target], async () => false).catch(toEngineError)
    expect(error).toMatchObject({ kind: 'limit', message: expect.stringMatching(/^model\.safetensors does not fit: .* full/) })
    expect(storage.directory('laminate').names()).toEqual([])
  })
  test('packing can be cancelled', async () => {
    const folder = new PrivateFolder(storage.handle)
    await folder.create('a.bin')
    await folder.write(new Uint8Array(500_000))
    await folder.close()
    await expect(pack(storage.handle, folder.names(), 'small', async () => true)).rejects.toMatchObject({ kind: 'cancelled' })
  })
})

describe('errors and addresses', () => {
  test('what is thrown becomes one sentence', () => {
    expect(toEngineError(new DOMException('', 'QuotaExceededError')).kind).toBe('limit')
    expect(toEngineError(new DOMException('', 'AbortError')).kind).toBe('cancelled')
    expect(toEngineError(new DOMException('', 'NotAllowedError')).message).toContain('refused access')
    expect(toEngineError(new Error('unreachable\n  at wasm')).message).toBe('The engine stopped unexpectedly (unreachable). Its state was discarded; run the step again.')
    expect(toEngineError({ kind: 'shape', message: 'm' })).toEqual({ kind: 'shape', message: 'm' })
    expect(toEngineError({ kind: 'nonsense', message: 'm' }).kind).toBe('internal')
  })
  test('the device in the address', () => {
    expect(['?device=cpu', '?device=gpu', '?device=toaster', ''].map(preferenceFrom)).toEqual(['cpu', 'gpu', 'auto', 'auto'])
  })
})

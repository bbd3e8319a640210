import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { brotliDecompressSync, gunzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { compressFolder } from '../../scripts/compress.mjs'
import { BUDGET, firstVisit, isFirst, isKept, withinBudget } from '../../scripts/kept.mjs'
import { serve } from '../../scripts/serve.mjs'
import { crateOf, demangled, grouped, partsOf, sections } from '../../scripts/wasmparts.mjs'

describe('what a first visit takes', () => {
  test('everything but llama.cpp, prose, the demo, and the workers that browsers fetch themselves', () => {
    for (const path of [
      'index.html',
      'assets/index-Ab12.js',
      'assets/laminate_bg-x.wasm',
      'assets/worker-x.js',
      'icons/192.png',
    ])
      expect(isFirst(path), path).toBe(true)
    for (const path of [
      'assets/wllama-x.wasm',
      'assets/llama-x.js',
      'assets/llama.worker-x.js',
      'assets/calibration-x.txt',
      'assets/model.safetensors-x.planes',
    ])
      expect([isKept(path), isFirst(path)], path).toEqual([true, false])
    for (const path of ['assets/service-x.js', 'offline.js']) expect(isKept(path), path).toBe(false)
  })

  test('is summed with and without the engine', () => {
    const lengths = new Map([
      ['index.html', 1],
      ['assets/index-x.js', 10],
      ['assets/find-x.js', 20],
      ['assets/laminate_bg-x.wasm', 100],
      ['assets/wllama-x.wasm', 1000],
      ['icons/512.png', 10_000],
    ])
    expect(firstVisit(lengths, '<script src="./assets/index-x.js"></script>')).toEqual({ visit: 131, page: 11 })
  })

  test('has limits that end the build', () => {
    expect(() => withinBudget({ ...BUDGET })).not.toThrow()
    expect(() => withinBudget({ ...BUDGET, visit: BUDGET.visit + 1 })).toThrow('The visit transfers 4.00 MB')
    expect(() => withinBudget({ ...BUDGET, page: 300_000 })).toThrow('The page transfers 0.30 MB')
  })
})

describe('compressed files', () => {
  let folder = ''
  const text = 'layers of a language model repeat each other. '.repeat(100)
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'laminate-size-'))
    mkdirSync(join(folder, 'assets'))
    writeFileSync(
      join(folder, 'index.html'),
      '<!doctype html><meta http-equiv="Content-Security-Policy" content="default-src \'none\'">',
    )
    writeFileSync(join(folder, 'assets', 'index-0123abcd.js'), text)
    writeFileSync(join(folder, 'picture.png'), text)
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  test('lie beside the others, where they are shorter', async () => {
    const lengths = await compressFolder(folder)
    const script = join(folder, 'assets', 'index-0123abcd.js')
    expect(brotliDecompressSync(readFileSync(`${script}.br`)).toString()).toBe(text)
    expect(gunzipSync(readFileSync(`${script}.gz`)).toString()).toBe(text)
    expect(lengths.get('assets/index-0123abcd.js')).toBe(readFileSync(`${script}.br`).length)
    expect(lengths.get('picture.png')).toBe(text.length)
    // A second time finds the same, and nothing of what it made.
    expect([...(await compressFolder(folder)).keys()].sort()).toEqual([
      'assets/index-0123abcd.js',
      'index.html',
      'picture.png',
    ])
  })

  test('are sent to browsers that take them', async () => {
    const lengths = await compressFolder(folder)
    const { address, close } = await serve(folder, 0)
    const ask = (accepted: string) =>
      fetch(`${address}/assets/index-0123abcd.js`, { headers: { 'Accept-Encoding': accepted } })
    try {
      for (const [accepted, encoding] of [
        ['gzip, deflate, br, zstd', 'br'],
        ['gzip', 'gzip'],
        ['identity', null],
      ] as const) {
        const answer = await ask(accepted)
        expect(answer.headers.get('content-encoding')).toBe(encoding)
        expect(answer.headers.get('content-type')).toBe('text/javascript; charset=utf-8')
        expect(answer.headers.get('vary')).toBe('Accept-Encoding')
        expect(await answer.text()).toBe(text)
      }
      expect((await ask('br')).headers.get('content-length')).toBe(String(lengths.get('assets/index-0123abcd.js')))
      expect((await ask('br')).headers.get('etag')).not.toBe((await ask('identity')).headers.get('etag'))
    } finally {
      close()
    }
  })
})

describe('a module taken apart', () => {
  const name = (text: string) => [text.length, ...Buffer.from(text)]
  const section = (id: number, ...content: number[]) => [id, content.length, ...content]
  const names = [0, ...name('naga::front::parse'), 1, ...name('core::fmt::write')].length
  /** One imported function, two of its own, and three bytes of data; the names are those of the functions 1 and 2. */
  const module = Uint8Array.from([
    0,
    97,
    115,
    109,
    1,
    0,
    0,
    0,
    ...section(1, 1, 0x60, 0, 0),
    ...section(2, 1, ...name('env'), ...name('f'), 0, 0),
    ...section(3, 2, 0, 0),
    ...section(10, 2, 4, 0, 1, 1, 11, 2, 0, 11),
    ...section(11, 1, 0, 0x41, 0, 11, 1, 7),
    ...section(0, ...name('name'), 1, names + 1, 2, 1, ...name('naga::front::parse'), 2, ...name('core::fmt::write')),
  ])

  test('every function has its name and its bytes, and data is apart', () => {
    expect(sections(module).map(({ id, name }) => name || id)).toEqual([1, 2, 3, 10, 11, 'name'])
    expect(partsOf(module).map(({ name, bytes }) => [name, bytes.length])).toEqual([
      ['naga::front::parse', 4],
      ['core::fmt::write', 2],
      ['data', 7],
    ])
    expect(grouped(partsOf(module), crateOf).map(({ name, bytes, functions }) => [name, bytes, functions])).toEqual([
      ['data', 7, 1],
      ['naga', 4, 1],
      ['std', 2, 1],
    ])
  })

  test('one that is cut short, or is none, is an error', () => {
    expect(() => partsOf(module.subarray(0, 20))).toThrow('ends in the middle')
    expect(() => partsOf(Uint8Array.of(1, 2, 3, 4))).toThrow('not a WebAssembly module')
  })

  test('names as the linker knows them', () => {
    expect(demangled('_ZN4naga5front5parse17h0123456789abcdefE')).toBe('naga::front::parse')
    expect(demangled('_ZN4core3ptr37drop_in_place$LT$naga..ir..Module$GT$17h0123456789abcdefE')).toBe(
      'core::ptr::drop_in_place<naga::ir::Module>',
    )
    expect(demangled('_ZN50_$LT$burn_flex..Op$u20$as$u20$core..fmt..Debug$GT$3fmt17h0123456789abcdefE')).toBe(
      '<burn_flex::Op as core::fmt::Debug>::fmt',
    )
    expect(['memcpy', '', '_ZN'].map(demangled)).toEqual(['memcpy', '', ''])
  })

  test.each([
    ['naga::valid::Validator::validate::h0123456789abcdef', 'naga'],
    ['core::ptr::drop_in_place::<naga::Module>', 'naga'],
    ['<alloc::vec::Vec<T> as core::clone::Clone>::clone', 'std'],
    ['<burn_flex::ops::Matmul as core::fmt::Debug>::fmt', 'burn_flex'],
    ['<core::iter::Map<I,laminate::merge::average::{closure}> as Iterator>::fold', 'laminate'],
    ['memcpy', 'std'],
    ['', 'without a name'],
  ])('%s belongs to %s', (name, crate) => expect(crateOf(name)).toBe(crate))
})

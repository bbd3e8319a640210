import { createHash } from 'node:crypto'
import { inflateSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { ICONS, iconFile, iconPixels, layersOf, pngFile } from '../../scripts/icons.mjs'
import { arriving } from '../../www/engine/arriving'
import type { Progress } from '../../www/engine/protocol/events'
import { fileFor, isOf, keptAt } from '../../www/offline/files'
import type { PageFile } from '../../www/offline/messages'

const FOLDER = 'https://host.example/tools/laminate/'
const page: PageFile = { path: '', digest: 'aaaa', atOnce: true, mentions: ['assets/index-1.js'] }
const script: PageFile = { path: 'assets/index-1.js', digest: 'bbbb', atOnce: true }
const files = [page, script]

describe('the files of the page that are kept', () => {
  test.each([
    ['', true, page],
    ['index.html', true, page],
    ['?device=cpu', true, page],
    ['index.html?device=cpu', true, page],
    ['assets/index-1.js', false, script],
    // Asked for by a program, with questions: the server's own business.
    ['?device=cpu', false, null],
    ['assets/index-1.js?x', false, null],
    ['assets/index-2.js', false, null],
    ['sample/model.gguf', false, null],
    ['assets/download/job/model.zip', true, null],
  ])('%s (a visit: %s)', (path, navigates, expected) => {
    expect(fileFor(FOLDER + path, navigates, FOLDER, files)).toBe(expected)
  })

  test('nothing of another folder or host is answered', () => {
    for (const url of [
      'https://host.example/',
      'https://host.example/tools/',
      'https://other.example/tools/laminate/',
      'https://huggingface.co/index.html',
    ]) {
      expect(fileFor(url, true, FOLDER, files), url).toBeNull()
    }
  })

  test('another content is kept at another address', () => {
    expect(keptAt(script, FOLDER)).not.toBe(keptAt({ ...script, digest: 'cccc' }, FOLDER))
  })

  test('what a server sends must be of this version', async () => {
    const content = new TextEncoder().encode('export default 1')
    const digest = createHash('sha256').update(content).digest('hex').slice(0, 16)
    expect(await isOf({ ...script, digest }, content.buffer)).toBe(true)
    expect(await isOf({ ...script, digest: '0123456789abcdef' }, content.buffer)).toBe(false)
    // Some hosts put something into the page; what it loads must be the same.
    const html = (name: string) =>
      new TextEncoder().encode(`<script src="x"></script><script src="./assets/${name}"></script>`).buffer
    expect(await isOf(page, html('index-1.js'))).toBe(true)
    expect(await isOf(page, html('index-2.js'))).toBe(false)
  })
})

describe('icons', () => {
  const square = { x: 8, y: 8, width: 16, height: 16, radius: 0, colour: [10, 20, 30] }

  test('are drawn from rectangles with a place, a size, a radius and a colour', () => {
    expect(layersOf('<svg><rect x="8" y="8" width="16" height="16" rx="0" fill="#0a141e"/></svg>')).toEqual([square])
    expect(() => layersOf('<rect x="4" y="4" width="24" height="4" rx="1" fill="red"/>')).toThrow(
      'without place, size, radius or colour',
    )
  })

  test('colour inside, paper around it, nothing in the corners of one that is not cut', () => {
    const at = (pixels: Buffer, x: number, y: number) => [...pixels.subarray((y * 64 + x) * 4, (y * 64 + x) * 4 + 4)]
    const [plain, maskable] = [iconPixels([square], 64, false), iconPixels([square], 64, true)]
    expect(at(plain, 32, 32)).toEqual([10, 20, 30, 255])
    expect(at(plain, 32, 4)).toEqual([0xfb, 0xfa, 0xf8, 255])
    expect(at(plain, 0, 0)[3]).toBe(0)
    expect(at(maskable, 0, 0)).toEqual([0xfb, 0xfa, 0xf8, 255])
  })

  test.each(ICONS.map(icon => [icon.path, icon] as const))('%s is a PNG file of its size', (_, icon) => {
    const file = iconFile(icon)
    expect(file.subarray(1, 4).toString()).toBe('PNG')
    expect([file.readUInt32BE(16), file.readUInt32BE(20)]).toEqual([icon.side, icon.side])
    expect(file.length).toBeLessThan(20_000)
  })

  test('the pixels come back out of the file', () => {
    const pixels = Buffer.from(Array.from({ length: 16 }, (_, i) => i * 16))
    const file = pngFile(pixels, 2)
    const length = file.readUInt32BE(33)
    const rows = inflateSync(file.subarray(41, 41 + length))
    expect(Buffer.concat([rows.subarray(1, 9), rows.subarray(10, 18)])).toEqual(pixels)
  })
})

describe('the engine while it arrives', () => {
  const module = new Uint8Array(1_000_000).fill(7)
  const sent = (type: string | null, headers: Record<string, string> = {}) => {
    const pieces = Array.from({ length: 10 }, (_, i) => module.subarray(i * 100_000, (i + 1) * 100_000))
    const body = new ReadableStream({
      pull: controller => {
        const next = pieces.shift()
        if (next) controller.enqueue(next)
        else controller.close()
      },
    })
    return new Response(body, { headers: { ...headers, ...(type ? { 'content-type': type } : {}) } })
  }
  async function told(response: Response) {
    const seen: Progress[] = []
    const passed = arriving(response, module.length, async event => {
      if ('progress' in event) seen.push(event.progress)
      return false
    })
    return { passed, whole: Buffer.from(await passed.arrayBuffer()).equals(module), seen }
  }

  test('is told of in bytes of its own length, whatever the server declares', async () => {
    const response = sent('application/wasm', { 'content-encoding': 'br', 'content-length': '1234' })
    const { passed, whole, seen } = await told(response)
    expect(passed).toBe(response)
    expect(whole).toBe(true)
    expect(seen.every(({ total }) => total === module.length)).toBe(true)
    expect(seen.map(({ done }) => done)).toEqual([100_000, 400_000, 700_000, 1_000_000])
    expect(seen[1]!.detail).toMatch(/^the engine, 400\s?kB of 1\.00\s?MB$/)
    expect(seen.at(-1)!.detail).not.toContain('of')
  })

  test.each([['application/octet-stream'], [null]])(
    'is compiled while it arrives from a server that sends it as %s',
    async type => {
      const { passed, whole } = await told(sent(type))
      expect(passed.headers.get('content-type')).toBe('application/wasm')
      expect(whole).toBe(true)
    },
  )
})

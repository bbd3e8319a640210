import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { build } from 'vite'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Engine, Failure, SimilarityReport } from '../../../package'
import { attempt, run } from '../../../scripts/command.mjs'
import { buildPackage } from '../../../scripts/package.mjs'
import { nodeProgram, root } from '../../../scripts/paths.mjs'
import stored from '../../../www/open/demo-similarity.json'
import { PROSE_NAMES, usualOf } from '../../../www/text/usual'
import { ENGINE, findBrowser, startBrowser } from './harness'
import { plainHost, type PlainHost } from './plain'
import { readZip } from './zip'

const MODEL = 'tests/data/models/gguf/stories260K-Q8_0.gguf'
const LONG = 300_000
const missing = [
  !findBrowser() && 'no Chromium was found (set CHROMIUM to its path)',
  !existsSync(ENGINE) && 'the engine has not been compiled',
].filter(Boolean)
if (missing.length) console.warn(`SKIPPED: the npm package, because ${missing.join(' and ')}`)

/** The page of somebody who bundles: the demo compared, and its similarities shown. */
const BUNDLED = `
  import { openEngine } from 'laminate-engine'
  import 'laminate-engine/heatmap'
  const engine = await openEngine({ device: 'cpu' })
  await engine.openDemo()
  const heatmap = document.createElement('laminate-heatmap')
  heatmap.similarity = await engine.compareLayers()
  document.body.append(heatmap)
`

/** The program of somebody who has types checked. */
const TYPED = `
  import { openEngine, Failure, type Progress, type SimilarityReport } from 'laminate-engine'
  import { LaminateHeatmap } from 'laminate-engine/heatmap'
  const onProgress = ({ done, total }: Progress) => console.log(done / total)
  const engine = await openEngine({ device: 'auto', onProgress, signal: AbortSignal.timeout(1000) })
  const heatmap: LaminateHeatmap = document.createElement('laminate-heatmap')
  try {
    const { layers } = await engine.open(document.querySelector('input')!.files!)
    await engine.open([{ name: 'model.gguf', url: 'https://example.com/model.gguf' }])
    const similarity: SimilarityReport = await engine.compareLayers('a text', { metric: 'cka', samples: 8, onProgress })
    heatmap.similarity = similarity
    const { merged, plan } = await engine.compress(Math.round(layers / 4), { method: 'mka', seed: 1 })
    console.log(merged.perplexity, plan.groups.length, similarity.similarity[0]?.[1]?.toFixed(2))
  } catch (error) {
    if (error instanceof Failure && error.kind === 'cancelled') console.log(error.message)
  }
  // @ts-expect-error There is no such metric.
  await engine.compareLayers(null, { metric: 'colour' })
  // @ts-expect-error A number of layers is needed.
  await engine.compress()
  // @ts-expect-error A report is not a matrix.
  heatmap.similarity = [[1]]
`

describe.skipIf(missing.length > 0)('the npm package', () => {
  let [folder, site, installed]: string[] = []
  let packed: Awaited<ReturnType<typeof buildPackage>>
  let browser: Browser
  const hosts: PlainHost[] = []

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'laminate-package-'))
    site = join(folder, 'site')
    installed = join(site, 'node_modules/laminate-engine')
    mkdirSync(installed, { recursive: true })
    packed = await buildPackage(join(folder, 'built'))
    await run('tar', ['-xzf', packed.tarball, '--strip-components=1', '-C', installed])
    cpSync('examples/heatmap.html', join(site, 'heatmap.html'))
    writeFileSync(join(site, 'package.json'), '{ "type": "module" }')
    browser = await startBrowser()
  })
  afterAll(async () => {
    await browser?.close()
    hosts.forEach(host => host.close())
    rmSync(folder!, { recursive: true, force: true })
  })

  const files = () =>
    readdirSync(installed!, { recursive: true, withFileTypes: true })
      .filter(entry => entry.isFile())
      .map(entry => relative(installed!, join(entry.parentPath, entry.name)))
      .sort()
  const read = (name: string) => readFileSync(join(installed!, name), 'utf8')

  /** A page of a host that knows nothing but files, and what went wrong there. */
  async function open(below: string, path: string): Promise<{ page: Page; errors: string[]; host: PlainHost }> {
    const host = await plainHost(below)
    hosts.push(host)
    const page = await (await browser.newContext()).newPage()
    const errors: string[] = []
    page.on('pageerror', error => errors.push(error.message))
    page.on('console', message => {
      if (message.type() === 'error' && !/favicon/.test(message.location().url)) errors.push(message.text())
    })
    await page.goto(host.url + path)
    return { page, errors, host }
  }

  /** What the heatmap of a page was given, and that as many squares are drawn. */
  async function shown(page: Page): Promise<SimilarityReport> {
    const heatmap = page.locator('laminate-heatmap')
    await heatmap.locator('.cells').waitFor({ timeout: LONG })
    const report = await heatmap.evaluate(element => (element as HTMLElement & { similarity: unknown }).similarity)
    expect(await heatmap.locator('.cells rect').count()).toBe((report as SimilarityReport).layers ** 2)
    return report as SimilarityReport
  }

  const apart = (a: number[][], b: number[][]) =>
    Math.max(...a.flat().map((value, i) => Math.abs(value - b.flat()[i]!)))

  test('holds what it names and needs, and nothing of the machine that built it', () => {
    expect(files()).toEqual(
      [
        ...['LICENSE-APACHE', 'LICENSE-MIT', 'README.md', 'licences/heatmap.md', 'licences/worker.md', 'package.json'],
        ...['index.js', 'index.d.ts', 'heatmap.js', 'heatmap.d.ts', 'worker.js', 'poolworker.js'],
        ...['laminate_bg.wasm', 'model.safetensors.planes', 'calibration.txt', 'evaluation.txt'],
      ].sort(),
    )
    const { version, exports, sideEffects, private: hidden } = JSON.parse(read('package.json'))
    expect(version).toBe(/^version = "(.+)"$/m.exec(readFileSync('Cargo.toml', 'utf8'))![1])
    expect(hidden).toBeUndefined()
    const named = Object.values<string | Record<string, string>>(exports).flatMap(of => Object.values([of].flat()))
    for (const path of [...named.flatMap(of => (typeof of === 'string' ? of : Object.values(of))), ...sideEffects])
      expect(files(), path).toContain(path.slice('./'.length))
    for (const name of files().filter(name => /\.(js|ts|json|md)$/.test(name))) {
      expect(read(name), name).not.toContain(root)
      expect(read(name), name).not.toMatch(/sourceMappingURL|__ADDRESS|^import .* from '(?!\.)/m)
    }
    // What a module names beside itself is there.
    for (const name of files().filter(name => name.endsWith('.js')))
      for (const [, beside] of read(name).matchAll(/new URL\("\.\/([^"]+)", import\.meta\.url\)/g))
        expect(files(), `${name} names ${beside}`).toContain(beside)
    expect(read('licences/worker.md')).toContain('## client-zip')
    expect(packed.bytes).toBe(statSync(packed.tarball).size)
    expect(packed.bytes).toBeLessThan(8e6)
    expect(packed.unpacked).toBe(files().reduce((sum, name) => sum + statSync(join(installed!, name)).size, 0))
  })

  test.each([
    ['bundler', 'esnext'],
    ['nodenext', 'nodenext'],
  ])('types are found and right, with moduleResolution %s', async (resolution, module) => {
    const compilerOptions = {
      ...{ moduleResolution: resolution, module, target: 'es2023', lib: ['es2023', 'dom', 'dom.iterable'] },
      ...{ strict: true, noEmit: true, types: [] },
    }
    writeFileSync(join(site!, 'typed.ts'), TYPED)
    writeFileSync(join(site!, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['typed.ts'] }))
    const { code, output } = await attempt(process.execPath, [nodeProgram('typescript/bin/tsc'), '-p', site!], {
      quiet: true,
    })
    expect([code, output]).toEqual([0, ''])
  })

  test(
    'the example draws a file that the visitor chooses, compared as on the page',
    async () => {
      const { page, errors, host } = await open(site!, 'heatmap.html')
      expect(host.asked.filter(path => /wasm|worker/.test(path))).toEqual([])
      await page.locator('input').setInputFiles(MODEL)
      const report = await shown(page)
      expect(await page.locator('output').innerText()).toBe('stories260K-Q8_0 has 5 layers.')
      const picture = page.getByRole('img', { name: /^Similarity of each pair of 5 layers/ })
      await picture.focus()
      await page.keyboard.press('ArrowDown')
      expect(await page.locator('laminate-heatmap').getByRole('status').innerText()).toContain(
        `Layers 0 and 1: similarity ${report.similarity[1]![0]!.toFixed(3)}`,
      )
      expect(errors).toEqual([])

      // What the page would have asked of the engine.
      const { text: _, ...calibration } = usualOf(report.model).calibration
      expect(report.options).toEqual({ ...calibration, text_name: PROSE_NAMES.calibration })
      expect(report.text).toMatchObject({ name: PROSE_NAMES.calibration, tokens_per_sequence: 256 })
      const { similarity } = report
      similarity.forEach((row, i) => row.forEach((value, j) => expect(value).toBe(i === j ? 1 : similarity[j]![i])))
    },
    LONG,
  )

  test(
    'the demo goes from its layers to a file, and a step can be stopped',
    async () => {
      const { page, errors } = await open(site!, 'heatmap.html')
      await page.addScriptTag({
        type: 'module',
        content: `import * as laminate from 'laminate-engine'; Object.assign(window, { laminate })`,
      })
      const done = await page.evaluate(async () => {
        const { openEngine } = (window as unknown as { laminate: typeof import('../../../package') }).laminate
        const failed = (step: Promise<unknown>) =>
          step.then(
            () => 'it did not fail',
            ({ kind }: Failure) => kind,
          )
        const engine: Engine = await openEngine({ device: 'cpu' })
        const early = await failed(engine.compareLayers())
        await engine.openDemo()
        const unasked = await failed(engine.compress(7))
        const stop = new AbortController()
        const stopped = await failed(engine.compareLayers(null, { signal: stop.signal, onLayer: () => stop.abort() }))
        const rows: number[] = []
        const { similarity } = await engine.compareLayers(null, { onLayer: ({ row }) => rows.push(row.length) })
        const unknown = await failed(engine.compress(7, { method: 'magic' }))
        const report = await engine.compress(7, { method: 'mka' })
        const file = await engine.write(report)
        const zip = [...new Uint8Array(await file.arrayBuffer())]
        engine.close()
        const closed = await failed(engine.openDemo())
        const failures = { early, unasked, stopped, unknown, closed }
        return { failures, similarity, rows, groups: report.plan.groups, kl: report.merged.kl, name: file.name, zip }
      })
      expect(done.failures).toEqual({
        early: 'usage',
        unasked: 'usage',
        stopped: 'cancelled',
        unknown: 'usage',
        closed: 'usage',
      })
      expect(apart(done.similarity, stored.similarity)).toBeLessThan(1e-3)
      expect(done.rows).toEqual(stored.similarity.map((_, layer) => layer + 1))
      expect(done.groups).toEqual([[0], [1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11]])
      expect(done.kl).toBeLessThan(0.1)
      expect(done.name).toBe('stories-planted-12L-laminated-5L.zip')
      const path = join(folder!, done.name)
      writeFileSync(path, Buffer.from(done.zip))
      const config = readZip(path).find(({ name }) => name.endsWith('/config.json'))!
      expect(JSON.parse(config.data.toString())).toMatchObject({ num_hidden_layers: 5 })
      expect(errors).toEqual([])
    },
    LONG,
  )

  test(
    'a bundler takes the worker, the engine and the demo along',
    async () => {
      writeFileSync(join(site!, 'bundled.js'), BUNDLED)
      writeFileSync(
        join(site!, 'bundled.html'),
        '<!doctype html><title>x</title><body></body><script type="module" src="./bundled.js"></script>',
      )
      const outDir = join(folder!, 'bundled')
      await build({
        ...{ root: site, base: './', configFile: false, logLevel: 'error', publicDir: false },
        build: { outDir, target: 'es2023', rolldownOptions: { input: join(site!, 'bundled.html') } },
      })
      const { page, errors, host } = await open(outDir, 'bundled.html')
      const report = await shown(page)
      expect(apart(report.similarity, stored.similarity)).toBeLessThan(1e-3)
      expect(host.asked.filter(path => path.endsWith('.wasm'))).toEqual([
        expect.stringMatching(/^assets\/laminate_bg-/),
      ])
      expect(errors).toEqual([])
    },
    LONG,
  )
})

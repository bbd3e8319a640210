import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AxeBuilder } from '@axe-core/playwright'
import type { Browser } from 'playwright-core'
import { build } from 'vite'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { linkOf } from '../../../www/share/link'
import { ofSimilarity } from '../../../www/share/result'
import { stored } from '../stored'
import { findBrowser, startBrowser } from './harness'

const browserPath = findBrowser()
if (!browserPath)
  console.warn('SKIPPED: the heatmap on other pages, because no Chromium was found (set CHROMIUM to its path)')

describe.skipIf(!browserPath)('the heatmap on a page of somebody else', () => {
  let [browser, server, folder, url]: [Browser | null, Server | null, string, string] = [null, null, '', '']
  const maps = stored
  const files = new Map<string, [type: string, body: () => Promise<string> | string]>()

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'laminate-embed-'))
    await build({ configFile: 'scripts/vite/embed.config.ts', logLevel: 'warn', build: { outDir: folder } })
    const page = (element: string) =>
      `<!doctype html><html lang="en"><title>A blog</title><main><h1>A blog</h1>${element}</main><script type="module" src="heatmap.js"></script></html>`
    files.set('/heatmap.js', ['text/javascript', () => readFileSync(join(folder, 'heatmap.js'), 'utf8')])
    files.set('/favicon.ico', ['image/x-icon', () => ''])
    files.set('/similarity.json', ['application/json', () => JSON.stringify(maps)])
    files.set('/bad.json', ['application/json', () => JSON.stringify({ ...maps, similarity: [[1]] })])
    const html = (element: string | Promise<string>) => ['text/html', async () => page(await element)] as const
    files.set('/by-file', [...html('<laminate-heatmap src="similarity.json"></laminate-heatmap>')])
    files.set('/bad', [...html('<laminate-heatmap src="bad.json"></laminate-heatmap>')])
    files.set('/none', [...html('<laminate-heatmap src="gone.json"></laminate-heatmap>')])
    const link = linkOf(ofSimilarity(maps, 'x'))
    files.set('/by-link', [...html(link.then(link => `<laminate-heatmap result="${link}"></laminate-heatmap>`))])
    server = createServer(async (request, response) => {
      const [type, body] = files.get(request.url ?? '') ?? []
      // Nothing may be fetched or run but from here, and no style but what the element adopts.
      response.writeHead(body ? 200 : 404, {
        'content-type': type ?? 'text/plain',
        'content-security-policy': "default-src 'self'",
      })
      response.end(body ? await body() : '')
    }).listen(0)
    await new Promise(done => server!.once('listening', done))
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    browser = await startBrowser()
  })
  afterAll(async () => {
    await browser?.close()
    server?.close()
    rmSync(folder, { recursive: true, force: true })
  })

  test.each(['by-file', 'by-link'])('is drawn and read, %s', async path => {
    const page = await (await browser!.newContext()).newPage()
    const errors: string[] = []
    page.on('console', message => message.type() === 'error' && errors.push(message.text()))
    await page.goto(`${url}/${path}`)
    const picture = page.getByRole('img', { name: /^Similarity of each pair of 12 layers/ })
    await picture.waitFor()
    expect(await page.locator('laminate-heatmap .cells rect').count()).toBe(144)
    await picture.focus()
    for (const key of ['ArrowDown', 'ArrowDown', 'ArrowRight', 'ArrowRight', 'ArrowRight'])
      await page.keyboard.press(key)
    expect(await page.getByRole('status').innerText()).toMatch(/^Layers 2 and 3: similarity 0\.93/)
    const found = await new AxeBuilder({ page }).analyze()
    expect(found.violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html}`)).toEqual([])
    expect(errors.filter(text => !/favicon/.test(text))).toEqual([])
    await page.context().close()
  })

  test('is drawn from an object that is set, also before the browser knows the element', async () => {
    const page = await (await browser!.newContext()).newPage()
    await page.goto(`${url}/similarity.json`)
    await page.evaluate(report => {
      const early = document.createElement('laminate-heatmap')
      document.body.replaceChildren(Object.assign(early, { similarity: report }))
    }, maps)
    await page.addScriptTag({ url: `${url}/heatmap.js`, type: 'module' })
    const heatmap = page.locator('laminate-heatmap')
    await heatmap.getByRole('img', { name: /^Similarity of each pair of 12 layers/ }).waitFor()
    const worse = { ...maps, similarity: [[1]] }
    await heatmap.evaluate((element, report) => Object.assign(element, { similarity: report }), worse)
    await heatmap.getByRole('alert').getByText('similarity').waitFor()
    await heatmap.evaluate((element, report) => Object.assign(element, { similarity: report }), maps)
    expect(await heatmap.locator('.cells rect').count()).toBe(144)
    await page.context().close()
  })

  test('what is wrong or not there is said in its place', async () => {
    const page = await (await browser!.newContext()).newPage()
    await page.goto(`${url}/bad`)
    await page.getByRole('alert').getByText('bad.json: similarity').waitFor()
    await page.goto(`${url}/none`)
    await page.getByRole('alert').getByText('gone.json: the server answered 404.').waitFor()
    await page.context().close()
  })
})

import { AxeBuilder } from '@axe-core/playwright'
import { existsSync } from 'node:fs'
import type { Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Hub } from '../hub'
import { bytesOf, compress, ENGINE, findBrowser, openSite, runDemo, visit, type Engine, type Site } from './harness'
import { pickerAnswers, privateFiles } from './storage'

const browser = findBrowser()
if (!browser) console.warn('SKIPPED: sending to a hub, because no Chromium was found (set CHROMIUM to its path)')
const TOKEN = 'hf_secret-of-this-test'
const NAME = 'stories-planted-12L-laminated-5L'

let hub: Hub
beforeEach(async () => {
  hub = await new Hub({}).start()
  hub.writing.switches.people = {
    [TOKEN]: { name: 'alice', role: 'write', orgs: [{ name: 'lab', roleInOrg: 'write' }] },
    hf_reads: { name: 'alice', role: 'read' },
  }
})
afterEach(() => hub?.stop())

const panel = (page: Page) => page.getByTestId('push')
const openPanel = async (page: Page, token = TOKEN) => {
  await panel(page).getByText('Put it on the Hugging Face Hub').click()
  await panel(page).getByLabel('Server').fill(hub.url)
  await panel(page).getByLabel('Token').fill(token)
}
const look = (page: Page) => panel(page).getByRole('button', { name: 'See what will be sent' }).click()
const send = (page: Page) =>
  panel(page)
    .getByRole('button', { name: /^Send / })
    .click()
const parcel = (page: Page) => page.getByTestId('parcel')
const pushed = (page: Page) => page.getByTestId('pushed').waitFor()
const repository = (name = NAME) => hub.writing.made.get(`alice/${name}`)

/** The browser itself says in its console that there is no such repository yet, which is asked. */
const isFault = (error: string) => !error.includes('404 (Not Found)')

/** What the page has written, by name, out of its private storage. */
async function written(page: Page): Promise<Map<string, Buffer>> {
  const paths = (await privateFiles(page)).filter(path => path.startsWith('laminate/'))
  const files = await page.evaluate(async paths => {
    const found: [string, string][] = []
    for (const path of paths) {
      let folder = await navigator.storage.getDirectory()
      const names = path.split('/')
      const name = names.pop()!
      for (const each of names) folder = await folder.getDirectoryHandle(each)
      const bytes = new Uint8Array(await (await (await folder.getFileHandle(name)).getFile()).arrayBuffer())
      let text = ''
      for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192))
      found.push([name, btoa(text)])
    }
    return found
  }, paths)
  return new Map(files.map(([name, base64]) => [name, Buffer.from(base64, 'base64')]))
}

/** All that was received is what was written; the card has grown by its picture, which is one. */
async function sameBytes(page: Page): Promise<void> {
  const [here, there] = [await written(page), repository()!.files]
  expect([...there.keys()].sort()).toEqual(['.gitattributes', 'similarity.png', ...here.keys()].sort())
  for (const [name, bytes] of here)
    if (name !== 'README.md') expect(Buffer.compare(there.get(name)!, bytes), name).toBe(0)
  const card = Buffer.from(there.get('README.md')!).toString()
  expect(card).toContain('](similarity.png)')
  expect(card.replace(/!\[[^\]]*\]\(similarity\.png\)\n\n/, '').trim()).toBe(here.get('README.md')!.toString().trim())
  expect(Buffer.from(there.get('similarity.png')!).subarray(1, 4).toString()).toBe('PNG')
  expect(there.get('similarity.png')!.length).toBeGreaterThan(3000)
}

/** All that outlives a click: storages, databases, the private file system, the address, fields that can be copied. */
function everythingKept(page: Page): Promise<string> {
  return page.evaluate(async () => {
    const kept: unknown[] = [{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href, history.state]
    kept.push([...document.querySelectorAll('input[readonly], textarea, a')].map(each => each.outerHTML))
    kept.push([...document.querySelectorAll<HTMLInputElement>('input[readonly]')].map(each => each.value))
    for (const { name } of await indexedDB.databases()) {
      const database = await new Promise<IDBDatabase>((resolve, reject) => {
        const asked = indexedDB.open(name!)
        asked.onsuccess = () => resolve(asked.result)
        asked.onerror = () => reject(new Error(name))
      })
      for (const store of database.objectStoreNames)
        kept.push(
          await new Promise(resolve => {
            const all = database.transaction(store).objectStore(store).getAll()
            all.onsuccess = () => resolve(all.result)
          }),
        )
      database.close()
    }
    for (const name of await caches.keys())
      for (const request of await (await caches.open(name)).keys()) kept.push(request.url, [...request.headers])
    const walk = async (folder: FileSystemDirectoryHandle): Promise<void> => {
      for await (const handle of folder.values()) {
        kept.push(handle.name)
        if (handle.kind === 'directory') await walk(handle as FileSystemDirectoryHandle)
        else kept.push(await (await (handle as FileSystemFileHandle).getFile()).text())
      }
    }
    await walk(await navigator.storage.getDirectory())
    return JSON.stringify(kept)
  })
}

describe
  .skipIf(!browser)
  .each([
    ['a mock engine', 'mock'],
    ...(existsSync(ENGINE) ? [['the compiled engine', 'real'] as const] : []),
  ] as const)('from the demo to a repository, with %s', (_, engine: Engine) => {
  let site: Site
  beforeAll(async () => {
    site = await openSite(engine)
  })
  afterAll(() => site?.close())

  test('what will be sent is said, then it is sent, and what arrives is what was written', async () => {
    const { page, errors } = await visit(site, '?device=cpu')
    await runDemo(page, 300_000)
    await compress(page, 7, 300_000)
    hub.writing.switches.partBytes = 200_000
    await openPanel(page)
    expect(await panel(page).getByLabel('Repository').inputValue()).toBe(NAME)
    expect(await panel(page).getByLabel('Public').isChecked()).toBe(false)
    await look(page)
    await parcel(page).waitFor({ timeout: 60_000 })
    const { host } = new URL(hub.url)
    expect((await parcel(page).innerText()).replace(/\s+/g, ' ')).toMatch(
      new RegExp(
        `^\\d+ files, [\\d.]+ kB, to alice/${NAME} on ${host}, as alice\\. A new repository, private: only you can see it\\.`,
      ),
    )
    // Nothing has been made or sent by looking.
    expect([hub.writing.made.size, hub.writing.puts.length]).toEqual([0, 0])
    await send(page)
    await pushed(page)
    expect(repository()).toMatchObject({ isPrivate: true, commits: [expect.stringContaining('5 of 12 layers')] })
    await sameBytes(page)
    expect(hub.writing.puts.some(({ bytes }) => bytes === 200_000)).toBe(true)
    expect(hub.writing.puts.every(({ authorization }) => authorization === undefined)).toBe(true)
    expect(errors.filter(isFault)).toEqual([])
  }, 600_000)
})

describe.skipIf(!browser)('sending to a hub, with a mock engine', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite('mock')
  })
  afterAll(() => site?.close())

  const compressed = async () => {
    const visited = await visit(site)
    await runDemo(visited.page)
    await compress(visited.page, 7)
    return visited
  }

  test('a page whose threads share memory may send too', async () => {
    const { page, errors } = await compressed()
    expect(await page.evaluate(() => crossOriginIsolated)).toBe(true)
    await openPanel(page)
    await look(page)
    await send(page)
    await pushed(page)
    expect(errors.filter(isFault)).toEqual([])
  })

  test('a stop, a broken connection, and going on: what has arrived is not sent again', async () => {
    const { page } = await compressed()
    Object.assign(hub.writing.switches, { partBytes: 30_000, slowMs: 1000 })
    await openPanel(page)
    await look(page)
    await send(page)
    const stop = panel(page).getByRole('button', { name: 'Stop' })
    await expect.poll(() => hub.writing.puts.length).toBeGreaterThan(6)
    await panel(page)
      .getByText(/^Sending [\d.]+\s.B of [\d.]+\s.B/)
      .waitFor()
    await stop.click()
    await page
      .getByRole('alert')
      .getByText(`Stopped. What alice/${NAME} has of it is not sent again when you go on.`)
      .waitFor()
    expect(repository()!.files.size).toBe(1)
    await parcel(page).getByText('Not all of it has arrived.').waitFor()

    Object.assign(hub.writing.switches, { slowMs: 0, breakAfter: 3 })
    const goOn = panel(page).getByRole('button', { name: 'Go on sending' })
    await goOn.click()
    await page
      .getByRole('alert')
      .getByText(/model\.safetensors for .* cannot be reached/)
      .waitFor({ timeout: 60_000 })
    hub.writing.switches.breakAfter = null
    await goOn.click()
    await pushed(page)
    await sameBytes(page)
    // Six requests at most were under way at the stop and at the break.
    const parts = new Set(hub.writing.puts.map(({ path }) => path)).size
    expect(hub.writing.puts.length).toBeLessThanOrEqual(parts + 2 * 6)
    expect(repository()!.commits).toHaveLength(1)
  })

  test('wrong tokens and names: a sentence each, and nothing is written or made', async () => {
    const { page } = await compressed()
    await openPanel(page, 'hf_wrong')
    const alert = (text: RegExp) => page.getByRole('alert').getByText(text).waitFor()
    await look(page)
    await alert(/does not accept the token\. Copy it whole once more/)
    await panel(page).getByLabel('Token').fill('hf_reads')
    await look(page)
    await alert(/This token of alice may only read\./)
    await panel(page).getByLabel('Token').fill(TOKEN)
    await panel(page).getByLabel('Repository').fill('bob/small')
    await look(page)
    await alert(/The token belongs to alice, and bob is somebody else\./)
    await panel(page).getByLabel('Repository').fill('my model')
    await panel(page).getByText('has a space in it').waitFor()
    expect(await panel(page).getByRole('button', { name: 'See what will be sent' }).isDisabled()).toBe(true)
    await panel(page).getByLabel('Token').fill('')
    await panel(page).getByLabel('Repository').fill('small')
    await panel(page).getByText('Give a token that may write first.').waitFor()
    expect(await privateFiles(page)).toEqual([])
    expect(hub.writing.made.size).toBe(0)
  })

  test('another wish needs another look; public is said in so many words; a repository that is there is told', async () => {
    const { page } = await compressed()
    await openPanel(page)
    await look(page)
    await parcel(page).getByText('private: only you can see it').waitFor()
    await panel(page).getByLabel('Public').check()
    await expect.poll(() => parcel(page).count()).toBe(0)
    await look(page)
    await parcel(page).getByText('public: anybody can see it').waitFor()
    await send(page)
    await pushed(page)
    expect(repository()!.isPrivate).toBe(false)
    // Asked to be private, it would still be public: the page says what is.
    await panel(page).getByLabel('Public').uncheck()
    await look(page)
    await parcel(page).getByText('The repository is there already and is public: anybody can see it.').waitFor()
    await parcel(page).getByText('6 files of it will be replaced').waitFor()
    const puts = hub.writing.puts.length
    await send(page)
    await pushed(page)
    expect(hub.writing.puts.length).toBe(puts)
    expect(repository()!.commits).toHaveLength(2)
  })

  test('what was written into a folder is sent from there, and a GGUF file with a card of its own', async () => {
    const { page, errors } = await compressed()
    await pickerAnswers(page, 'models')
    await page.getByRole('button', { name: 'Write into a folder' }).click()
    await page.getByTestId('saved').waitFor()
    await openPanel(page)
    await look(page)
    await send(page)
    await pushed(page)
    expect((await privateFiles(page)).every(path => path.startsWith('models/'))).toBe(true)
    expect(
      repository()!
        .files.get('model.safetensors')!
        .every(byte => byte === 7),
    ).toBe(true)
    await page.getByLabel('Format').selectOption('gguf')
    await panel(page).getByLabel('Repository').fill('small-gguf')
    await look(page)
    await send(page)
    await pushed(page)
    const files = repository('small-gguf')!.files
    expect([...files.keys()].sort()).toEqual(
      ['.gitattributes', 'README.md', `${NAME}.gguf`, 'recipe.json', 'similarity.png'].sort(),
    )
    expect(Buffer.from(files.get('README.md')!).toString()).toMatch(/^---\npipeline_tag[\s\S]*with 5 of 12 layers/)
    expect(JSON.parse(Buffer.from(files.get('recipe.json')!).toString())).toMatchObject({
      output: { container: 'gguf' },
      plan: { n_layers: 12 },
    })
    // What waits in the storage can be taken home from there.
    await page.getByText("Written into this browser's private storage and read back").waitFor()
    const { bytes } = await bytesOf(page, () => page.getByRole('button', { name: 'Download it', exact: true }).click())
    expect(Buffer.compare(bytes, files.get(`${NAME}.gguf`)!)).toBe(0)
    expect(errors.filter(isFault)).toEqual([])
  })

  test('the token is in no storage, no link, no report, no file and no console afterwards', async () => {
    const said: string[] = []
    const { page } = await compressed()
    page.on('console', message => said.push(message.text()))
    await openPanel(page)
    await look(page)
    await send(page)
    await pushed(page)
    const report = await bytesOf(page, () => page.getByRole('button', { name: 'Save the report' }).click())
    const result = await bytesOf(page, () => page.getByRole('button', { name: 'The same as JSON' }).click())
    const received = [...repository()!.files.values()].map(bytes => Buffer.from(bytes).toString('latin1'))
    const all = [await everythingKept(page), said.join(), report.bytes.toString(), result.bytes.toString(), ...received]
    expect(all[0]!.length).toBeGreaterThan(10_000)
    expect(all.filter(text => text.includes('secret-of-this-test'))).toEqual([])
    await page.reload()
    await page.getByRole('button', { name: 'Compare the layers again' }).waitFor()
    expect(await everythingKept(page)).not.toContain('secret-of-this-test')
    expect(
      await page.evaluate(() => [...document.querySelectorAll('input')].map(input => input.value).join()),
    ).not.toContain('secret-of-this-test')
  })

  test('by keyboard, and under axe', async () => {
    const { page } = await compressed()
    await panel(page).locator('summary').first().focus()
    await page.keyboard.press('Enter')
    await panel(page).getByLabel('Server').fill(hub.url)
    await panel(page).getByLabel('Token').fill(TOKEN)
    await panel(page).getByRole('button', { name: 'See what will be sent' }).focus()
    await page.keyboard.press('Enter')
    await parcel(page).waitFor()
    const { violations } = await new AxeBuilder({ page }).include('[data-testid="push"]').analyze()
    expect(violations.map(({ id, nodes }) => [id, nodes.map(node => node.html)])).toEqual([])
    await panel(page)
      .getByRole('button', { name: /^Send / })
      .focus()
    await page.keyboard.press('Enter')
    await pushed(page)
    expect(await page.evaluate(() => document.activeElement?.tagName)).not.toBe('BODY')
  })
})

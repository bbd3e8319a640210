// @ts-check
/** The page's types of what crosses the engine's border (`www/engine/protocol/`), made from the engine's types. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { run } from './command.mjs'
import { nativeTarget, root } from './paths.mjs'
import { cargoEnv } from './rust.mjs'

const folder = join(root, 'www/engine/protocol')

/** Every file's name and text. @returns {Promise<[string, string][]>} */
async function protocolFiles() {
  const { format, resolveConfig } = await import('prettier')
  const made = mkdtempSync(join(tmpdir(), 'laminate-protocol-'))
  try {
    await run('cargo', ['test', '--release', '--lib', '--quiet', 'protocol::typescript'], {
      env: cargoEnv(nativeTarget, { LAMINATE_PROTOCOL: made }),
    })
    const options = { ...(await resolveConfig(join(folder, 'plan.ts'))), parser: 'typescript' }
    const pretty = readdirSync(made).map(async name => {
      const text = await format(readFileSync(join(made, name), 'utf8'), options)
      return /** @type {[string, string]} */ ([name, text])
    })
    return await Promise.all(pretty)
  } finally {
    rmSync(made, { recursive: true, force: true })
  }
}

/** The files of the page that are not what the engine's types say. @returns {Promise<string[]>} */
export async function oldProtocol() {
  const there = new Set(readdirSync(folder))
  const files = await protocolFiles()
  const isOld = (/** @type {[string, string]} */ [name, text]) =>
    !there.has(name) || readFileSync(join(folder, name), 'utf8') !== text
  return files.filter(isOld).map(([name]) => name)
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href)
  for (const [name, text] of await protocolFiles()) writeFileSync(join(folder, name), text)

// @ts-check
/** llama.cpp as node-llama-cpp packs it, for the tests that load what we write with it. */
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { npm } from './packages.mjs'
import { tools } from './paths.mjs'

const VERSION = '3.22.1'

/** The package with the compiled library; the others, for graphics cards and other systems, are 700 MB. */
const platforms = /** @type {Record<string, string>} */ ({
  'linux-x64': 'linux-x64',
  'linux-arm64': 'linux-arm64',
  'darwin-x64': 'mac-x64',
  'darwin-arm64': 'mac-arm64-metal',
  'win32-x64': 'win-x64',
  'win32-arm64': 'win-arm64',
})

const folder = join(tools, `llama-${VERSION}`)

/** Where the module is, or null where it is not to be had. */
export async function prepareLlama() {
  const platform = platforms[`${process.platform}-${process.arch}`]
  if (!platform) return null
  const entry = join(folder, 'node_modules', 'node-llama-cpp', 'dist', 'index.js')
  if (!existsSync(entry)) {
    const packages = ['node-llama-cpp', `@node-llama-cpp/${platform}`].map(name => `${name}@${VERSION}`)
    await npm(
      ['install', '--prefix', folder, '--ignore-scripts', '--omit=optional', '--no-audit', '--no-fund', ...packages],
      { quiet: true },
    )
  }
  withoutTiles(join(folder, 'node_modules', '@node-llama-cpp', platform, 'bins'))
  return existsSync(entry) ? entry : null
}

/**
 * Takes away the variant for processors with matrix tiles (AMX), so that llama.cpp takes the one with the next best vectors:
 * with tiles it computes nonsense where matrices are small (ggml-org/llama.cpp pull request 16315 tells of more).
 * @param {string} bins
 */
function withoutTiles(bins) {
  if (!existsSync(bins)) return
  for (const name of readdirSync(bins, { recursive: true, encoding: 'utf8' })) {
    if (/ggml-cpu-sapphirerapids\.\w+$/.test(name)) rmSync(join(bins, name))
  }
}

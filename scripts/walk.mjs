// @ts-check
/**
 * Makes what the guided walk shows of the demo: `node scripts/walk.mjs LAMINATE`, with the path of the command line.
 *
 * - `www/walk/demo-points.bin`: what each text's last token brings into the stream, from the demo's own file, and the
 *   activations of `tests/data/stories-planted-12L.points.bin`, packed as `www/walk/packed.ts` unpacks them
 * - `www/walk/demo-facts.json`: their format, a corner of the weights of each layer, and what the command line
 *   measures after each merge of the demo, and of three ways to make several layers one
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { deflateRawSync } from 'node:zlib'
import { ask } from './command.mjs'
import { root } from './paths.mjs'

const [LAYERS, COUNT, WIDTH] = [12, 128, 64]
/** Fourteen bits for the largest activation, 10.76. */
const STEP = 6.6e-4
const CORNER = 16
/** One more than the demo has planted: the last one shows what a merge too many costs. */
const MERGES = 9

/** @param {Float32Array} values */
export function packed(values) {
  const size = COUNT * WIDTH
  const steps = Array.from(values, value => Math.round(value / STEP))
  const folded = steps
    .map((value, i) => value - (steps[i - size] ?? 0))
    .map(value => (value < 0 ? -2 * value - 1 : 2 * value))
  return deflateRawSync(Uint8Array.from([...folded.map(value => value & 255), ...folded.map(value => value >> 8)]), {
    level: 9,
  })
}

export function storedPoints() {
  const bytes = readFileSync(join(root, 'tests/data/stories-planted-12L.points.bin'))
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))
}

/** @param {number} bits */
function fromHalf(bits) {
  const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023]
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024))
}

/** Reads the demo's own file: `tensor(name)` gives the shape of a tensor and its values by their index. */
function demoWeights() {
  const file = readFileSync(join(root, 'src/demo/model.safetensors.planes'))
  const start = 8 + Number(file.readBigUInt64LE(0))
  const header = JSON.parse(file.subarray(8, start).toString())
  const [high, low] = [file.subarray(start, (start + file.length) / 2), file.subarray((start + file.length) / 2)]
  return (/** @type {string} */ name) => {
    const { shape, data_offsets: offsets } = header[name]
    const first = offsets[0] / 2
    const at = (/** @type {number} */ index) => fromHalf(((high[first + index] ?? 0) << 8) | (low[first + index] ?? 0))
    return { /** @type {number[]} */ shape, at }
  }
}

/** The embedding of the last token of each text: the stream before the first layer. */
export function storedStarts() {
  const { vocab } = JSON.parse(readFileSync(join(root, 'src/demo/tokenizer.json'), 'utf8')).model
  /** @type {{ point_list: { token: string }[] }} */
  const { point_list: points } = JSON.parse(readFileSync(join(root, 'www/walk/demo-result.json'), 'utf8'))
  const { at } = demoWeights()('model.embed_tokens.weight')
  return Float32Array.from(
    points.flatMap(({ token }) => {
      const id = vocab[token.replaceAll(' ', '\u2581')] ?? vocab[byteToken(token)]
      if (id === undefined) throw new Error(`the demo's tokenizer has no token "${token}"`)
      return Array.from({ length: WIDTH }, (_, c) => at(id * WIDTH + c))
    }),
  )
}

/** How the vocabulary writes a token that is one byte. @param {string} character */
const byteToken = character => `<0x${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}>`

/** The first rows and columns of the attention output projection of each layer, from the demo's own file. */
export function corners() {
  const weights = demoWeights()
  return Array.from({ length: LAYERS }, (_, layer) => {
    const { shape, at } = weights(`model.layers.${layer}.self_attn.o_proj.weight`)
    return Array.from({ length: CORNER }, (_, row) =>
      Array.from({ length: CORNER }, (_, col) => Number(at(row * (shape[1] ?? 0) + col).toPrecision(5))),
    )
  })
}

/** What the command line measures after each merge, and for dropping the same layers. @param {string} laminate */
function merges(laminate) {
  const folder = mkdtempSync(join(tmpdir(), 'laminate-walk-'))
  try {
    const printed = ask(laminate, [
      'compress',
      'demo',
      '--remove',
      String(MERGES),
      '--method',
      'mka',
      '--out',
      join(folder, 'smaller'),
      '--device',
      'cpu',
      '--json',
    ])
    if (!printed) throw new Error(`${laminate} did not compress the demo`)
    const { original, steps } = JSON.parse(printed)
    let groups = Array.from({ length: LAYERS }, (_, layer) => [layer])
    return {
      perplexity: short(original.perplexity),
      merges: steps.map((/** @type {import('../www/engine/protocol/plan').MergeStep} */ step) => {
        groups = groups.toSpliced(step.merged[0], 2, step.groups.flat())
        return {
          groups,
          merged: step.groups,
          alpha: short(step.alpha),
          ...quality(step),
          dropped: quality(step.dropped),
        }
      }),
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Three ways to make several layers one, on stories that nothing was fitted to. @param {string} laminate */
function fits(laminate) {
  const ways = { refitted: 'laminate', averaged: 'mka', dropped: 'redundancy+drop' }
  const remove = Array.from({ length: MERGES - 1 }, (_, i) => i + 1)
  const printed = ask(laminate, [
    'compare',
    'demo',
    '--methods',
    Object.values(ways).join(),
    '--remove',
    remove.join(),
    '--device',
    'cpu',
    '--json',
  ])
  if (!printed) throw new Error(`${laminate} did not compare methods on the demo`)
  /** @type {import('../www/engine/protocol/compare').CompareReport} */
  const { evaluation, original, rows } = JSON.parse(printed)
  const row = (/** @type {string} */ method, /** @type {number} */ removed) => {
    const found = rows.find(row => row.method === method && row.removed === removed)
    if (!found) throw new Error(`${method} with ${removed} removed was not measured`)
    return found
  }
  return {
    text: evaluation.name,
    tokens: evaluation.tokens_scored,
    perplexity: short(original.perplexity),
    models: remove.map(removed => ({
      groups: row(ways.refitted, removed).groups,
      ...Object.fromEntries(Object.entries(ways).map(([way, method]) => [way, quality(row(method, removed).quality)])),
    })),
  }
}

/** @param {{ perplexity: number | null, kl: number | null, top1_agreement: number | null } | null} measured */
function quality(measured) {
  const { perplexity = null, kl = null, top1_agreement: agreement = null } = measured ?? {}
  if (perplexity === null || kl === null || agreement === null) throw new Error('a merge was not measured')
  return { perplexity: short(perplexity), kl: short(kl), agreement: short(agreement) }
}

/** @param {number} value */
const short = value => Number(value.toPrecision(6))

if (process.argv[1] === import.meta.filename) {
  const laminate = process.argv[2]
  if (!laminate) throw new Error('usage: node scripts/walk.mjs LAMINATE')
  writeFileSync(join(root, 'www/walk/demo-points.bin'), packed(Float32Array.of(...storedStarts(), ...storedPoints())))
  const facts = {
    points: { depths: 1 + LAYERS, count: COUNT, width: WIDTH, step: STEP },
    ...merges(laminate),
    fits: fits(laminate),
    weights: corners(),
  }
  writeFileSync(join(root, 'www/walk/demo-facts.json'), JSON.stringify(facts))
}

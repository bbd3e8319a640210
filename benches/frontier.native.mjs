// Benchmark: the best model of each size, beside the original in fewer bits and fewer layers in each type: bytes of the file,
// KL and perplexity on a held-out text, how far the best of each size is before every other model of that size (paired by
// sequence, 95 %), and how fast llama.cpp runs the file (LLAMA names the module of node-llama-cpp).
//
// usage: npm run bench -- frontier MODEL CALIBRATION.txt HELD_OUT.txt SIZE,SIZE [SEQUENCES [HELD_OUT_SEQUENCES [TYPE,TYPE [K,K]]]]
//
// TYPES are those in which the original, and the models of `laminate` without K layers, are measured besides their own.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const [model, calibration, heldOut, sizes, sequences = '24', heldOutSequences = '32', types = '', removals = ''] =
  process.argv.slice(2).filter(argument => !argument.startsWith('--'))
if (!sizes) {
  console.log('frontier: give a model, a text to fit to, a text to judge on, and sizes such as 60MB,80MB')
  process.exit(0)
}

/** Tokens of a prompt, and tokens that are generated after it. */
const [PROMPT, GENERATED, ROUNDS] = [256, 64, 3]

/** KEEP names a folder in which the files stay, with the reports and the finished work, so that an interrupted benchmark goes on. */
const { KEEP } = process.env
const folder = KEEP ?? mkdtempSync(join(tmpdir(), 'laminate-frontier-'))
if (KEEP) mkdirSync(folder, { recursive: true })
else process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const text = [
  '--text',
  calibration,
  '--draw',
  'spread',
  '--samples',
  sequences,
  '--tokens',
  '256',
  '--eval-text',
  heldOut,
  '--eval-samples',
  heldOutSequences,
  '--device',
  'cpu',
  '--json',
]
const work = ['--checkpoint', join(folder, 'work')]

/** Where KEEP holds the report of a run of the command line. @param {string[]} args */
const reportOf = args =>
  join(folder, `report-${createHash('sha256').update(JSON.stringify(args)).digest('hex').slice(0, 16)}.json`)

/** What a run of the command line reports; a report that is kept is not made again. @param {string[]} args */
function laminate(args) {
  const report = reportOf(args)
  if (!existsSync(report))
    writeFileSync(
      report,
      execFileSync(process.env.LAMINATE ?? 'laminate', args, {
        stdio: ['ignore', 'pipe', 'ignore'],
        maxBuffer: 1 << 28,
      }),
    )
  return JSON.parse(readFileSync(report, 'utf8'))
}

/** Writes a model and reports it, unless both the file and its report are kept. @param {string[]} how */
function compress(how) {
  const file = join(
    folder,
    `${how
      .join('_')
      .replace(/[^a-z0-9_.]/gi, '-')
      .slice(0, 80)}.gguf`,
  )
  const args = ['compress', model, ...how, ...text, ...work, '--out', file]
  if (!existsSync(file) || !existsSync(reportOf(args)))
    for (const each of [file, reportOf(args)]) rmSync(each, { force: true })
  return { file, report: laminate(args) }
}

/** Tokens a second of llama.cpp, for a prompt and for what follows it: the best of three rounds. @param {string} file */
async function speed(file) {
  if (!process.env.LLAMA) return null
  const { getLlama, LlamaLogLevel } = await import(pathToFileURL(process.env.LLAMA).href)
  const llama = await getLlama({ build: 'never', gpu: false, logLevel: LlamaLogLevel.error })
  const loaded = await llama.loadModel({ modelPath: file, gpuLayers: 0 })
  // More threads than cores wait for each other.
  const context = await loaded.createContext({
    contextSize: PROMPT + GENERATED + 8,
    batchSize: PROMPT,
    threads: llama.cpuMathCores,
  })
  const sequence = context.getSequence()
  const prompt = Array.from({ length: PROMPT }, (_, i) => 100 + ((i * 7919) % 1000))
  const best = { prefill: 0, generation: 0 }
  for (let round = 0; round < ROUNDS; round++) {
    await sequence.clearHistory()
    const start = performance.now()
    await sequence.evaluateWithoutGeneratingNewTokens(prompt)
    const read = performance.now()
    let n = 0
    for await (const _ of sequence.evaluate([100], { temperature: 0, yieldEogToken: true }))
      if (++n === GENERATED) break
    const end = performance.now()
    best.prefill = Math.max(best.prefill, (1000 * PROMPT) / (read - start))
    best.generation = Math.max(best.generation, (1000 * n) / (end - read))
  }
  const { metadata } = loaded.fileInfo
  const own = metadata[metadata.general.architecture]
  const width = own.attention.key_length ?? own.embedding_length / own.attention.head_count
  const heads = own.attention.head_count_kv ?? own.attention.head_count
  // Keys and values in F16.
  const cache = (own.block_count * 2 * 2 * 1000 * width * heads) / 1e6
  await llama.dispose()
  return { ...best, cache }
}

const mean = (/** @type {number[]} */ x) => x.reduce((sum, each) => sum + each, 0) / x.length

/** The mean of `other - own` and half its 95 % interval, by the normal quantile. @param {number[]} own @param {number[]} other */
function paired(own, other) {
  if (own.length !== other.length || own.length < 2) return '–'
  const differences = own.map((each, i) => other[i] - each)
  const middle = mean(differences)
  const variance = differences.reduce((sum, each) => sum + (each - middle) ** 2, 0) / (differences.length - 1)
  return `${middle.toFixed(3)} ± ${(1.96 * Math.sqrt(variance / differences.length)).toFixed(3)}`
}

const started = Date.now()
const said = (/** @type {string} */ what) => console.error(`${((Date.now() - started) / 60e3).toFixed(1)} min: ${what}`)

/** Every other model, with the bytes of its tensors. @type {{ name: string, layers: number, bytes: number, kl: number, perplexity: number, by: number[] }[]} */
const others = []
if (types || removals) {
  const measured = laminate([
    'compare',
    model,
    '--methods',
    'laminate',
    '--remove',
    removals || '1',
    '--dtype',
    ['keep', ...types.split(',').filter(Boolean)].join(','),
    ...text,
  ])
  const layers = measured.model.layers
  for (const each of measured.originals)
    others.push({
      name: `original in ${each.dtype}`,
      layers,
      bytes: each.bytes,
      kl: each.quality.kl,
      perplexity: each.quality.perplexity,
      by: each.kl_by_sequence,
    })
  for (const each of measured.rows)
    if (each.quality)
      others.push({
        name: `\`laminate\`${each.dtype ? ` in ${each.dtype}` : ''}`,
        layers: each.layers,
        bytes: each.bytes,
        kl: each.quality.kl,
        perplexity: each.quality.perplexity,
        by: each.kl_by_sequence,
      })
  said('other models measured')
  console.log(`| model | layers | MB of tensors | KL | perplexity |\n|---|---:|---:|---:|---:|`)
  for (const each of others)
    console.log(
      `| ${each.name} | ${each.layers} | ${(each.bytes / 1e6).toFixed(1)} | ${each.kl.toFixed(3)} | ${each.perplexity.toFixed(1)} |`,
    )
  console.log()
}

console.log(
  '| at most | model | layers | MB | KL, expected | KL | perplexity | next best: KL above | prompt, tokens/s | generation, tokens/s | cache of 1000 tokens |',
)
console.log('|---|---|---:|---:|---:|---:|---:|---|---:|---:|---:|')

/** @param {string} size @param {string} name @param {string} file @param {any[]} figures */
async function row(size, name, file, [layers, expected, kl, perplexity, next]) {
  const fast = await speed(file)
  const cells = [
    size,
    name,
    layers,
    (statSync(file).size / 1e6).toFixed(1),
    expected?.toFixed(3) ?? '',
    kl.toFixed(3),
    perplexity.toFixed(1),
    next,
    fast?.prefill.toFixed(0) ?? '–',
    fast?.generation.toFixed(1) ?? '–',
    fast ? `${fast.cache.toFixed(1)} MB` : '–',
  ]
  console.log(`| ${cells.join(' | ')} |`)
  if (!KEEP) rmSync(file)
}

if (process.env.LLAMA) {
  const fast = await speed(model)
  console.log(
    `| | the original | | ${(statSync(model).size / 1e6).toFixed(1)} | | 0 | | | ${fast?.prefill.toFixed(0)} | ${fast?.generation.toFixed(1)} | ${fast?.cache.toFixed(1)} MB |`,
  )
}
for (const size of sizes.split(',')) {
  const { file, report } = compress(['--target-size', size])
  const [made, ...besides] = report.search.models
  const small = [
    ...besides.map((/** @type {any} */ each) => ({
      name: `${each.layers} layers in ${each.dtype ?? 'their own types'}`,
      bytes: 0,
      kl: each.quality.kl,
      by: each.kl_by_sequence,
    })),
    ...others,
  ]
    .filter(each => each.bytes + report.search.bytes_beside_tensors <= report.search.size)
    .sort((a, b) => a.kl - b.kl)
  const [next] = small
  const behind = next ? `${next.name}: ${paired(made.kl_by_sequence, next.by)}` : ''
  await row(size, made.dtype ?? 'own types', file, [
    made.layers,
    made.expected_kl,
    made.quality.kl,
    made.quality.perplexity,
    behind,
  ])
  for (const each of besides)
    console.log(
      `| | beside it: ${each.dtype ?? 'own types'} | ${each.layers} | ${(each.bytes / 1e6).toFixed(1)} | ${each.expected_kl?.toFixed(3) ?? ''} | ${each.quality.kl.toFixed(3)} | ${each.quality.perplexity.toFixed(1)} | | | | |`,
    )
  said(`best of ${size}`)
}
for (const type of types.split(',').filter(Boolean)) {
  const { file, report } = compress(['--remove', '0', '--dtype', type])
  await row('', `all layers in ${type}`, file, [
    report.groups.length,
    null,
    report.merged.kl,
    report.merged.perplexity,
    '',
  ])
}
process.exit(0)

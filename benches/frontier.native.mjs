// Benchmark: the best model of each size, beside the original in fewer bits and fewer layers in the types that they have:
// bytes of the file, KL and perplexity on a held-out text, and how fast llama.cpp runs the file.
//
// usage: npm run bench -- frontier MODEL CALIBRATION.txt HELD_OUT.txt SIZE,SIZE [SEQUENCES [HELD_OUT_SEQUENCES [TYPE,TYPE]]]
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const [model, calibration, heldOut, sizes, sequences = '24', heldOutSequences = '32', types = ''] = process.argv.slice(2).filter(argument => !argument.startsWith('--'))
if (!sizes) {
  console.log('frontier: give a model, a text to fit to, a text to judge on, and sizes such as 60MB,80MB')
  process.exit(0)
}

/** Tokens of a prompt, and tokens that are generated after it. */
const [PROMPT, GENERATED, ROUNDS] = [256, 64, 3]

const folder = mkdtempSync(join(tmpdir(), 'laminate-frontier-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const text = ['--text', calibration, '--draw', 'spread', '--samples', sequences, '--tokens', '256', '--eval-text', heldOut, '--eval-samples', heldOutSequences]

/** @param {string[]} how */
function compress(how) {
  const file = join(folder, `${how.join('_').replace(/[^a-z0-9_.]/gi, '-').slice(0, 80)}.gguf`)
  const output = execFileSync(process.env.LAMINATE ?? 'laminate', ['compress', model, ...how, ...text, '--out', file, '--device', 'cpu', '--json'], { stdio: ['ignore', 'pipe', 'ignore'], maxBuffer: 1 << 27 })
  return { file, report: JSON.parse(output.toString()) }
}

/** Tokens a second of llama.cpp, for a prompt and for what follows it: the best of three rounds. @param {string} file */
async function speed(file) {
  if (!process.env.LLAMA) return null
  const { getLlama, LlamaLogLevel } = await import(pathToFileURL(process.env.LLAMA).href)
  const llama = await getLlama({ build: 'never', gpu: false, logLevel: LlamaLogLevel.error })
  const loaded = await llama.loadModel({ modelPath: file, gpuLayers: 0 })
  const context = await loaded.createContext({ contextSize: PROMPT + GENERATED + 8, batchSize: PROMPT })
  const sequence = context.getSequence()
  const prompt = Array.from({ length: PROMPT }, (_, i) => 100 + ((i * 7919) % 1000))
  const best = { prefill: 0, generation: 0 }
  for (let round = 0; round < ROUNDS; round++) {
    await sequence.clearHistory()
    const start = performance.now()
    await sequence.evaluateWithoutGeneratingNewTokens(prompt)
    const read = performance.now()
    let n = 0
    for await (const _ of sequence.evaluate([100], { temperature: 0, yieldEogToken: true })) if (++n === GENERATED) break
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

console.log('| model | layers | MB | expected KL | KL | perplexity | prompt, tokens/s | generation, tokens/s | cache of 1000 tokens |')
console.log('|---|---:|---:|---:|---:|---:|---:|---:|---:|')

/** @param {string} name @param {string[]} how */
async function row(name, how) {
  const { file, report } = compress(how)
  const fast = await speed(file)
  const [made] = report.search?.models ?? []
  const figures = [
    report.groups.length,
    (statSync(file).size / 1e6).toFixed(1),
    made?.expected_kl?.toFixed(3) ?? '–',
    report.merged.kl.toFixed(3),
    report.merged.perplexity.toFixed(1),
    fast?.prefill.toFixed(0) ?? '–',
    fast?.generation.toFixed(1) ?? '–',
    fast ? `${fast.cache.toFixed(1)} MB` : '–',
  ]
  const dtype = made ? `, ${report.recipe.output.dtype}` : ''
  console.log(`| ${name}${dtype} | ${figures.join(' | ')} |`)
  for (const each of report.search?.models.slice(1) ?? []) {
    const kl = each.quality.kl.toFixed(3)
    console.log(`| beside it: ${each.dtype} | ${each.layers} | ${(each.bytes / 1e6).toFixed(1)} | ${each.expected_kl?.toFixed(3) ?? '–'} | ${kl} | ${each.quality.perplexity.toFixed(1)} | | | |`)
  }
  rmSync(file)
}

for (const type of types.split(',').filter(Boolean)) await row(`all layers in ${type}`, ['--remove', '0', '--dtype', type])
for (const size of sizes.split(',')) await row(`best of ${size}`, ['--target-size', size])
process.exit(0)

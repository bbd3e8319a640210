// Benchmark: tokens per second of the page's engine in wasm on one thread, 8 sequences of 256 tokens through
// all layers and the head, weights streamed from disk. The similarity stage is what is timed, so that maps and
// comparisons count too.
//
// usage: npm run bench -- prefill MODEL_DIR
import { execFileSync } from 'node:child_process'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { loadEngine, sourceOf } from './engine/load.mjs'

const folder = process.argv.slice(2).find(argument => !argument.startsWith('--'))
if (!folder) {
  console.log('prefill in wasm: give a model directory')
  process.exit(0)
}
const { Engine } = await loadEngine()

const run = await Engine.create('cpu')
await run.open(await Promise.all((await readdir(folder)).map(name => sourceOf(join(folder, name)))))
const options = { samples: 8, tokens: 256, points: 'tokens:3' }
const { seconds, perplexity, text } = await run.similarity(options, async () => false)
const tokens = text.sequences * text.tokens_per_sequence
console.log(
  `prefill in wasm: ${(tokens / seconds).toFixed(0)} tokens/s (${seconds.toFixed(2)} s, perplexity ${perplexity.toFixed(2)})`,
)
if (process.env.PYTHON) {
  const script = join(import.meta.dirname, '../tests/bench/prefill.py')
  const theirs = Number(
    execFileSync(process.env.PYTHON, [script, folder, '1'], { stdio: ['ignore', 'pipe', 'ignore'] }),
  )
  console.log(
    `prefill: ${theirs.toFixed(0)} tokens/s by PyTorch on one thread; ours is ${(tokens / seconds / theirs).toFixed(2)} of that`,
  )
}
process.exit(0)

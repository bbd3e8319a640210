// Benchmark: Laminate's method in wasm on one thread, as a page runs it on the CPU: similarities of a text, a plan that
// removes so many layers, fitted and measured on another text. Seconds of each stage, KL, and the size of wasm's memory.
//
// usage: npm run bench -- fit MODEL.gguf CALIBRATION.txt HELD_OUT.txt [REMOVE [SEQUENCES]]
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { loadEngine, sourceOf } from './engine/load.mjs'

const [model, calibration, heldOut, remove = '8', sequences = '96'] = process.argv
  .slice(2)
  .filter(argument => !argument.startsWith('--'))
if (!heldOut) {
  console.log('fit in wasm: give a .gguf file, a text to fit to and a text to judge on')
  process.exit(0)
}
const { Engine, memory } = await loadEngine()
const textOf = path => ({ text: readFileSync(path, 'utf8'), text_name: basename(path) })
const megabytes = () => `${(memory.buffer.byteLength / 1e6).toFixed(0)} MB`

const run = await Engine.create('cpu')
await run.open([await sourceOf(model)], basename(model))
const options = { ...textOf(calibration), draw: 'spread', samples: Number(sequences), tokens: 256, points: 'tokens:8' }
const compared = await run.similarity(options, async () => false)
console.log(`fit in wasm: similarities of ${sequences} x 256 tokens ${compared.seconds.toFixed(0)} s, ${megabytes()}`)
const method = run.methods().find(({ name }) => name === 'laminate')
const { selection, operator, one_shot, longest_run } = method
const judge = { ...textOf(heldOut), samples: 16, tokens: 256, draw: 'first' }
const plan = await run.plan(
  { remove: Number(remove), selection, operator, one_shot, longest_run, alpha: 'similarity' },
  async () => false,
  { dtype: 'f16' },
  judge,
)
console.log(
  `fit in wasm: ${remove} layers removed ${plan.seconds.toFixed(0)} s, KL ${plan.merged.kl.toFixed(3)} (dropped ${plan.dropped.kl.toFixed(3)}), ${megabytes()}; in all ${((compared.seconds + plan.seconds) / 60).toFixed(1)} minutes`,
)
process.exit(0)

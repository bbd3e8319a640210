// Benchmark: the page's engine, in wasm on one thread, on a model of Llama-3-8B's shapes that `cargo bench --bench
// scale` has written: seconds of each stage and the size of wasm's memory, which never shrinks.
//
// usage: npm run bench -- scale.mjs MODEL.gguf
import { open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadEngine, readAt, sourceOf } from './engine/load.mjs'

const path = process.argv.slice(2).find(argument => !argument.startsWith('--'))
if (!path?.endsWith('.gguf')) {
  console.log('scale in wasm: give a .gguf file')
  process.exit(0)
}
const { Engine, memory } = await loadEngine()
const source = await sourceOf(path)

/** What the engine writes, as the worker offers a folder. */
const target = join(tmpdir(), `laminate-scale-${process.pid}.gguf`)
let out
const folder = {
  create: async () => {
    out = await open(target, 'w+')
  },
  write: async bytes => {
    await out.write(bytes)
  },
  close: async () => {},
  size: async () => (await out.stat()).size,
  read: (_, offset, length) => readAt(out, offset, length),
  commit: async () => {},
  abort: async () => {},
}

const timed = async (name, work) => {
  const start = performance.now()
  const result = await work()
  console.log(
    `scale in wasm: ${name} ${((performance.now() - start) / 1e3).toFixed(1)} s, memory ${(memory.buffer.byteLength / 1e6).toFixed(0)} MB`,
  )
  return result
}

const observe = async () => false
const run = await Engine.create('cpu')
await timed('open', () => run.open([source], 'scale'))
const options = { samples: 8, tokens: 16, points: 'tokens:4' }
await timed('estimate', () => run.estimate(options))
await timed('similarity', () => run.similarity(options, observe))
const { plan } = await timed('plan of one merge', () => run.plan({ remove: 1, alpha: 'similarity' }, observe))
await timed('write and check', () => run.write(plan, {}, folder, observe))
await out.close()
await rm(target)
process.exit(0)

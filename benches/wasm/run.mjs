// Times the similarity stage in WebAssembly on one thread: median of five runs.
import { readFileSync } from 'node:fs'

const folder = process.env.CARGO_TARGET_DIR ?? new URL('target', import.meta.url).pathname
const file = `${folder}/wasm32-unknown-unknown/release/similarity_wasm.wasm`
const { instance } = await WebAssembly.instantiate(readFileSync(file), {})
const { prepare, run, memory } = instance.exports

const given = process.argv.slice(2).map(Number)
const [layers, points, width] = given.length === 3 ? given : [32, 512, 4096]
prepare(layers, points, width)
run()
const times = Array.from({ length: 5 }, () => {
  const start = performance.now()
  run()
  return performance.now() - start
}).sort((a, b) => a - b)
console.log(`${layers} layers x ${points} points x ${width}: ${times[2].toFixed(0)} ms on one thread`)
console.log(`(${times[0].toFixed(0)} to ${times[4].toFixed(0)} ms; memory ${memory.buffer.byteLength / 2 ** 20} MiB)`)

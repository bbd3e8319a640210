// Times the similarity stage in WebAssembly on one thread, median of five runs, and what a hand on the bandwidth
// slider waits for: the enlarged layer's map, the maps of all layers, and the same maps in full after it lets go.
import { readFileSync } from 'node:fs'

const folder = process.env.CARGO_TARGET_DIR ?? new URL('target', import.meta.url).pathname
const file = `${folder}/wasm32-unknown-unknown/release/similarity_wasm.wasm`
const { instance } = await WebAssembly.instantiate(readFileSync(file), {})
const { prepare, run, keep, map, memory } = instance.exports

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

keep()
const all = Array.from({ length: layers }, (_, layer) => layer)
const timed = work => {
  const start = performance.now()
  work()
  return performance.now() - start
}
const median = times => times.sort((a, b) => a - b)[times.length >> 1]
// From the median to a quarter of it and back, as fast as pictures come.
const gesture = Array.from({ length: 33 }, (_, i) => 2 ** (-2 * Math.sin((Math.PI * i) / 32)))
all.forEach(layer => map(layer, 1, true))
const drags = gesture.map(bandwidth => [
  timed(() => map(0, bandwidth, true)),
  timed(() => all.slice(1).forEach(layer => map(layer, bandwidth, true))),
])
const sums = drags.map(([first, others]) => first + others)
console.log(
  `bandwidth slider: ${median(drags.map(([first]) => first)).toFixed(1)} ms for one layer, ${median(sums).toFixed(0)} ms for all (${Math.max(...sums).toFixed(0)} at most)`,
)
console.log(`the same in full: ${timed(() => all.forEach(layer => map(layer, 0.75, false))).toFixed(0)} ms`)

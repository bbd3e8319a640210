// The page's engine for benchmarks in wasm on one thread, and files on disk as its worker offers a browser's `File`.
import { open, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { fusedKernel } from '../../www/engine/fused.js'

/** The engine of the folder that `ENGINE` names, as the page starts it, and its memory, which never shrinks. */
export async function loadEngine() {
  const folder = process.env.ENGINE ?? join(import.meta.dirname, '../../www/engine/pkg')
  const { default: init, Engine, addProductsBy } = await import(pathToFileURL(join(folder, 'laminate.js')).href)
  const { memory, __wasm_call_ctors: construct } = await init({
    module_or_path: await readFile(join(folder, 'laminate_bg.wasm')),
  })
  // Engines from before this export run their constructors by themselves.
  construct?.()
  const { fused: kernel } = await import(pathToFileURL(join(folder, 'fused.js')).href)
  const fused = await fusedKernel(kernel, memory)
  if (fused) addProductsBy(fused)
  else console.log('This Node.js has no relaxed vector instructions: products are slower than in most browsers.')
  return { Engine, memory }
}

/** Bytes of an open file. */
export async function readAt(file, offset, length) {
  const bytes = new Uint8Array(length)
  for (let at = 0; at < length;) at += (await file.read(bytes, at, length - at, offset + at)).bytesRead
  return bytes
}

/** A file that the engine can read. */
export async function sourceOf(path) {
  const file = await open(path)
  return {
    name: basename(path),
    size: (await file.stat()).size,
    read: (offset, length) => readAt(file, offset, length),
  }
}

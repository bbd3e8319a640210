// @ts-check
/** The engine: Rust to WebAssembly, and the JavaScript around it. */
import { mkdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { ask, run } from './command.mjs'
import { filesUnder, fingerprint, isCurrent, markCurrent } from './fingerprint.mjs'
import { enginePackage, root, wasmTarget } from './paths.mjs'
import { bindgen, cargoEnv, WASM } from './rust.mjs'

/** Vector instructions are on in every browser since 2023; the arithmetic is several times slower without. */
export const wasmEnv = () =>
  cargoEnv(wasmTarget, { RUSTFLAGS: [process.env.RUSTFLAGS, '-C target-feature=+simd128'].filter(Boolean).join(' ') })

/** What makes the engine what it is. */
function enginePrint() {
  const sources = ['src', 'Cargo.toml', 'Cargo.lock', 'www/build/engine.mjs'].map(path => join(root, path))
  const profile = Object.entries(process.env).filter(([name]) => name.startsWith('CARGO_PROFILE_WASM_'))
  return fingerprint(root, filesUnder(sources), [ask('rustc', ['-vV']) ?? '', wasmEnv().RUSTFLAGS ?? '', ...profile.sort().map(String)])
}

/** Builds `www/engine/pkg`, if anything that goes into it has changed. */
export async function buildEngine() {
  const print = enginePrint()
  if (isCurrent(enginePackage, print)) return 'nothing changed'
  await run('cargo', ['build', '--profile', 'wasm', '--target', WASM, '--lib'], { env: wasmEnv() })
  rmSync(enginePackage, { recursive: true, force: true })
  mkdirSync(enginePackage, { recursive: true })
  const module = join(wasmTarget, WASM, 'wasm', 'laminate.wasm')
  await run(bindgen('wasm-bindgen') ?? 'wasm-bindgen', [module, '--target', 'web', '--out-dir', enginePackage, '--out-name', 'laminate', '--remove-name-section', '--remove-producers-section'])
  markCurrent(enginePackage, print)
  return `${(statSync(join(enginePackage, 'laminate_bg.wasm')).size / 1e6).toFixed(1)} MB`
}

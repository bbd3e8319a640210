// @ts-check
/** The engine: Rust to WebAssembly, and the JavaScript around it. */
import { copyFileSync, existsSync, mkdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { ask, run } from './command.mjs'
import { filesUnder, fingerprint, isCurrent, markCurrent } from './fingerprint.mjs'
import { enginePackage, root, wasmTarget } from './paths.mjs'
import { bindgen, cargoEnv, WASM } from './rust.mjs'

/** Vector instructions are on in every browser since 2023; the arithmetic is several times slower without. */
export const wasmEnv = () =>
  cargoEnv(wasmTarget, { RUSTFLAGS: [process.env.RUSTFLAGS, '-C target-feature=+simd128'].filter(Boolean).join(' ') })

/** The module as it was compiled, whose functions have names. */
export const namedModule = join(wasmTarget, 'engine.wasm')

/** What makes the engine what it is. */
function enginePrint() {
  const sources = ['src', 'Cargo.toml', 'Cargo.lock', 'www/build/engine.mjs'].map(path => join(root, path))
  const profile = Object.entries(process.env).filter(([name]) => name.startsWith('CARGO_PROFILE_WASM_'))
  return fingerprint(root, filesUnder(sources), [ask('rustc', ['-vV']) ?? '', wasmEnv().RUSTFLAGS ?? '', ...profile.sort().map(String)])
}

/** Builds `www/engine/pkg`, if anything that goes into it has changed. */
export async function buildEngine() {
  const print = enginePrint()
  if (isCurrent(enginePackage, print) && existsSync(namedModule)) return 'nothing changed'
  await run('cargo', ['build', '--profile', 'wasm', '--target', WASM, '--lib'], { env: wasmEnv() })
  rmSync(enginePackage, { recursive: true, force: true })
  mkdirSync(enginePackage, { recursive: true })
  // Under a name of its own: the command line, compiled for tests, has the same as the library.
  copyFileSync(join(wasmTarget, WASM, 'wasm', 'laminate.wasm'), namedModule)
  await run(bindgen('wasm-bindgen') ?? 'wasm-bindgen', [namedModule, '--target', 'web', '--out-dir', enginePackage, '--out-name', 'laminate', '--remove-name-section', '--remove-producers-section'])
  markCurrent(enginePackage, print)
  return `${(statSync(join(enginePackage, 'laminate_bg.wasm')).size / 1e6).toFixed(1)} MB`
}

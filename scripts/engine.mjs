// @ts-check
/** The engine: Rust to WebAssembly, and the JavaScript around it. */
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ask, run } from './command.mjs'
import { filesUnder, fingerprint, isCurrent, markCurrent } from './fingerprint.mjs'
import { enginePackage, root, wasmTarget } from './paths.mjs'
import { bindgen, cargoEnv, WASM } from './rust.mjs'
import { inSharedMemory } from './wasmparts.mjs'

/** Vector instructions are on in every browser since 2023; the arithmetic is several times slower without. */
export const wasmEnv = () =>
  cargoEnv(wasmTarget, { RUSTFLAGS: [process.env.RUSTFLAGS, '-C target-feature=+simd128'].filter(Boolean).join(' ') })

/** The module as it was compiled, whose functions have names. */
export const namedModule = join(wasmTarget, 'engine.wasm')

/** The engine's products with instructions that not every browser has. */
export const kernelSource = join(root, 'www', 'engine', 'fused.rs')

/** More than the kernel has where nothing in it can panic. */
const KERNEL_BYTES = 4096

/** What makes the engine what it is. */
function enginePrint() {
  const sources = [
    'src',
    'Cargo.toml',
    'Cargo.lock',
    'scripts/engine.mjs',
    'scripts/wasmparts.mjs',
    'www/engine/fused.rs',
  ].map(path => join(root, path))
  const profile = Object.entries(process.env).filter(([name]) => name.startsWith('CARGO_PROFILE_WASM_'))
  return fingerprint(root, filesUnder(sources), [
    ask('rustc', ['-vV']) ?? '',
    wasmEnv().RUSTFLAGS ?? '',
    ...profile.sort().map(String),
  ])
}

/** The function that runs the static constructors, by its name in the module. */
const CONSTRUCTORS = '__wasm_call_ctors'

/** Builds `www/engine/pkg`, if anything that goes into it has changed. */
export async function buildEngine() {
  const print = enginePrint()
  if (isCurrent(enginePackage, print) && existsSync(namedModule)) return 'nothing changed'
  // The crate itself is an ordinary library: a crate type for the browser in `Cargo.toml` would cost every native build a link.
  const library = ['rustc', '--profile', 'wasm', '--target', WASM, '--lib', '--crate-type', 'cdylib']
  // Without this export the linker takes the module for a program, and has every function that JavaScript calls run all
  // static constructors of all crates first: thousands of calls for each number that crosses. The page calls them once.
  await run('cargo', [...library, '--', '-C', `link-arg=--export=${CONSTRUCTORS}`], { env: wasmEnv() })
  rmSync(enginePackage, { recursive: true, force: true })
  mkdirSync(enginePackage, { recursive: true })
  // Under a name of its own: the command line, compiled for tests, has the same as the library.
  copyFileSync(join(wasmTarget, WASM, 'wasm', 'laminate.wasm'), namedModule)
  await run(bindgen('wasm-bindgen') ?? 'wasm-bindgen', [
    namedModule,
    '--target',
    'web',
    '--out-dir',
    enginePackage,
    '--out-name',
    'laminate',
    '--remove-name-section',
    '--remove-producers-section',
  ])
  await buildKernel()
  markCurrent(enginePackage, print)
  return `${(statSync(join(enginePackage, 'laminate_bg.wasm')).size / 1e6).toFixed(1)} MB`
}

/**
 * Builds `www/engine/pkg/fused.js`: the kernels of products. `fused` works in the engine's memory, with vector instructions
 * that not every browser has; `sharedFused` and `shared`, with and without these, in the memory that threads share. Their
 * stacks are wherever the page says.
 */
async function buildKernel() {
  const fused = await compileKernel('fused', '+simd128,+relaxed-simd')
  const plain = await compileKernel('plain', '+simd128')
  const modules = { fused, sharedFused: inSharedMemory(fused), shared: inSharedMemory(plain) }
  const lines = Object.entries(modules).map(
    ([name, bytes]) => `export const ${name} = bytes('${Buffer.from(bytes).toString('base64')}')\n`,
  )
  writeFileSync(
    join(enginePackage, 'fused.js'),
    `const bytes = base64 => Uint8Array.from(atob(base64), c => c.charCodeAt(0))\n${lines.join('')}`,
  )
}

/** @param {string} name @param {string} features @returns {Promise<Uint8Array>} */
async function compileKernel(name, features) {
  const module = join(wasmTarget, `${name}.wasm`)
  const codegen = [
    'opt-level=3',
    'panic=abort',
    'strip=symbols',
    `target-feature=${features}`,
    'link-arg=--import-memory',
    'link-arg=--export=__stack_pointer',
  ]
  await run('rustc', [
    '--edition',
    '2024',
    '-D',
    'warnings',
    '--crate-name',
    'kernel',
    '--crate-type',
    'cdylib',
    '--target',
    WASM,
    ...codegen.flatMap(option => ['-C', option]),
    kernelSource,
    '-o',
    module,
  ])
  const bytes = readFileSync(module)
  // With code for panics or memory of its own it would write where the engine's data lie.
  if (bytes.length > KERNEL_BYTES)
    throw new Error(
      `${kernelSource} makes a module of ${bytes.length} bytes: there must be nothing in it that can panic or allocate`,
    )
  return bytes
}

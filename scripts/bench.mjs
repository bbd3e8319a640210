// @ts-check
/**
 * `npm run bench`: the benchmarks. Native ones are the `[[bench]]` targets of `Cargo.toml`; `benches/*.mjs` load
 * the page's engine (its folder is `ENGINE`), `benches/*.page.mjs` the page with the mock engine, and `benches/*.native.mjs`
 * the program (`LAMINATE`) and llama.cpp (`LLAMA`);
 * `benches/NAME/run.mjs` have a WebAssembly crate of their own beside them. `npm run bench -- WORD ARGUMENTS` runs
 * those with WORD in their name. Where a Python with PyTorch is found, `PYTHON` names it.
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { buildSteps } from './buildsteps.mjs'
import { ask, run } from './command.mjs'
import { wasmEnv } from './engine.mjs'
import { prepareLlama } from './llama.mjs'
import { enginePackage, nativeTarget, root, wasmTarget } from './paths.mjs'
import { findPython } from './python.mjs'
import { cargoEnv, prepareRust, WASM } from './rust.mjs'
import { runSteps, script } from './steps.mjs'

const benches = join(root, 'benches')
const [word = '', ...options] = process.argv.slice(2)
const python = process.env.PYTHON ?? findPython()
/** @type {Record<string, string>} */
const env = { ENGINE: enginePackage, ...(python ? { PYTHON: python } : {}) }

/** What browsers have had on for years, and Node.js from its version 22 on. */
const nodeFlags = Number(process.versions.node.split('.')[0]) < 22 ? ['--experimental-wasm-relaxed-simd'] : []

/** @typedef {{ name: string, run: () => Promise<unknown>, engine?: boolean }} Bench */

/** @returns {Bench[]} */
function nativeBenches() {
  const metadata = JSON.parse(ask('cargo', ['metadata', '--no-deps', '--format-version', '1']) ?? '{"packages":[]}')
  return metadata.packages
    .flatMap((/** @type {any} */ each) => each.targets)
    .filter((/** @type {any} */ target) => target.kind.includes('bench'))
    .map((/** @type {any} */ { name }) => ({
      name: `${name}, native`,
      run: async () =>
        void (await run('cargo', ['bench', '--bench', name, '--', ...options], { env: cargoEnv(nativeTarget, env) })),
    }))
}

/** @returns {Bench[]} */
function wasmBenches() {
  const names = existsSync(benches) ? readdirSync(benches).sort() : []
  const onEngine = names
    .filter(name => name.endsWith('.mjs') && !name.endsWith('.native.mjs'))
    .map(name => ({
      name: name.endsWith('.page.mjs') ? `${name}, in the browser` : `${name}, WebAssembly`,
      engine: !name.endsWith('.page.mjs'),
      run: async () => void (await run(process.execPath, [...nodeFlags, join(benches, name), ...options], { env })),
    }))
  const withCrate = names
    .filter(name => existsSync(join(benches, name, 'run.mjs')))
    .map(name => ({
      name: `${name}, WebAssembly`,
      run: async () => {
        const own = { ...wasmEnv(), ...env, CARGO_TARGET_DIR: join(wasmTarget, `bench-${name}`) }
        await run('cargo', ['build', '--release', '--target', WASM], { env: own, cwd: join(benches, name) })
        await run(process.execPath, [join(benches, name, 'run.mjs'), ...options], { env: own })
      },
    }))
  return [...onEngine, ...withCrate]
}

/** @returns {Bench[]} */
function programBenches() {
  const names = existsSync(benches) ? readdirSync(benches).sort() : []
  return names
    .filter(name => name.endsWith('.native.mjs'))
    .map(name => ({
      name: `${name}, the program`,
      run: async () => {
        await run('cargo', ['build', '--release', '--bin', 'laminate'], { env: cargoEnv(nativeTarget) })
        const llama = await prepareLlama()
        const own = { ...env, LAMINATE: join(nativeTarget, 'release', 'laminate'), ...(llama ? { LLAMA: llama } : {}) }
        await run(process.execPath, [join(benches, name), ...options], { env: own })
      },
    }))
}

await script(async () => {
  const chosen = [...nativeBenches(), ...programBenches(), ...wasmBenches()].filter(({ name }) => name.includes(word))
  if (chosen.length === 0) throw new Error(`There is no benchmark with "${word}" in its name.`)
  const first = chosen.some(({ engine }) => engine) ? buildSteps.slice(0, -1) : [{ name: 'Rust', run: prepareRust }]
  await runSteps([...first, ...chosen])
})

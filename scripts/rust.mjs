// @ts-check
/** The Rust side of the machine: compiler, WebAssembly target, wasm-bindgen. */
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { ask, run } from './command.mjs'
import { atLeast, lockedCrate } from './lockfile.mjs'
import { root, tools } from './paths.mjs'

export const WASM = 'wasm32-unknown-unknown'

const exe = process.platform === 'win32' ? '.exe' : ''

/** Environment for cargo: where to build, and its progress bar although its output passes through us. @param {string} target @param {Record<string, string>} [more] @returns {Record<string, string>} */
export function cargoEnv(target, more = {}) {
  const bar = process.stderr.isTTY && !process.env.CI
  const terminal = {
    CARGO_TERM_COLOR: 'always',
    CARGO_TERM_PROGRESS_WHEN: 'always',
    CARGO_TERM_PROGRESS_WIDTH: String(process.stderr.columns ?? 80),
  }
  return { CARGO_TARGET_DIR: target, ...(bar ? terminal : {}), ...more }
}

/** The compiler is there, new enough, and knows the WebAssembly target. */
export async function prepareRust() {
  const version = /^rustc (\S+)/.exec(ask('rustc', ['-V']) ?? '')?.[1]
  if (!version) throw new Error('Rust is not installed: see https://rustup.rs')
  const needed = /^rust-version = "([^"]+)"/m.exec(readFileSync(join(root, 'Cargo.toml'), 'utf8'))?.[1] ?? '0'
  if (!atLeast(version, needed))
    throw new Error(`Rust ${version} is too old, ${needed} is needed: rustup update stable`)
  const sysroot = ask('rustc', ['--print', 'sysroot']) ?? ''
  if (existsSync(join(sysroot, 'lib', 'rustlib', WASM))) return `rustc ${version}`
  await run('rustup', ['target', 'add', WASM])
  return `rustc ${version}, target ${WASM} added`
}

/** Rust's own formatter and linter, which a minimal installation lacks. */
export async function prepareLinters() {
  const missing = [
    ['fmt', 'rustfmt'],
    ['clippy', 'clippy'],
  ].filter(([command]) => ask('cargo', [command ?? '', '--version']) === null)
  if (missing.length > 0) await run('rustup', ['component', 'add', ...missing.map(([, component]) => component ?? '')])
  return missing.length > 0 ? 'added' : 'already installed'
}

/** The version of wasm-bindgen that the engine is compiled with; the tool must be of exactly the same. */
const wasmBindgenVersion = () => lockedCrate(readFileSync(join(root, 'Cargo.lock'), 'utf8'), 'wasm-bindgen')

const bindgenNames = /** @type {const} */ (['wasm-bindgen', 'wasm-bindgen-test-runner'])

/** The tool, from the cache or from PATH, or null where none has the right version. @param {typeof bindgenNames[number]} name */
export function bindgen(name) {
  const version = wasmBindgenVersion()
  const cached = join(tools, `wasm-bindgen-${version}`, 'bin', name + exe)
  return [cached, name].find(program => ask(program, ['--version'])?.split(/\s+/)[1] === version) ?? null
}

/** The parts of the tool that take the time when it runs. */
const hot = ['walrus', 'wasmparser', 'wasm-encoder', 'wasm-bindgen-cli-support', 'id-arena', 'hashbrown', 'gimli']

/**
 * Installs wasm-bindgen and its test runner where they are missing. Built once and run for seconds, they are
 * compiled for a short build: without TLS, which we do not use, and optimised only where it shows. Processor
 * seconds to build: as a release 420, without TLS at opt-level 1 204, in debug 92, like this 135. To run on a
 * module of 30 MB: at opt-level 1 2.8, in debug 14.4, like this 3.6. `--locked` would ask for withdrawn versions.
 */
export async function prepareBindgen() {
  const version = wasmBindgenVersion()
  if (bindgenNames.every(name => bindgen(name))) return `${version}, already installed`
  const target = join(tools, 'target')
  const bins = bindgenNames.flatMap(name => ['--bin', name])
  const profile = hot.flatMap(name => ['--config', `profile.release.package.${name}.opt-level=1`])
  const where = ['--version', version, '--root', join(tools, `wasm-bindgen-${version}`)]
  await run('cargo', ['install', 'wasm-bindgen-cli', ...where, '--no-default-features', ...bins, ...profile], {
    env: cargoEnv(target, { CARGO_PROFILE_RELEASE_OPT_LEVEL: '0', RUSTFLAGS: '' }),
  })
  rmSync(target, { recursive: true, force: true })
  return version
}

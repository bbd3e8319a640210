// @ts-check
/** Every test there is, in an order that lets the quick ones fail first. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { browserFlags, findBrowser, findDriver, prepareBrowser } from './browser.mjs'
import { ask, run } from './command.mjs'
import { cargoCounts, nextestCounts } from './counts.mjs'
import { buildEngine, kernelSource, wasmEnv } from './engine.mjs'
import { prepareLlama } from './llama.mjs'
import { installPackages } from './packages.mjs'
import { buildPage } from './page.mjs'
import { nativeTarget, root } from './paths.mjs'
import { oldProtocol } from './protocol.mjs'
import { preparePython } from './python.mjs'
import { bindgen, cargoEnv, prepareBindgen, prepareLinters, prepareRust, WASM } from './rust.mjs'
import { check, fail, nodeCheck, nodeTest, pass, skip, tests, unittest, vitest } from './runners.mjs'

const native = () => ({ env: cargoEnv(nativeTarget) })
const wasm = () => ({ env: wasmEnv() })
const inCheckout = (/** @type {string} */ path) => existsSync(join(root, path))

/** Tests that are functions, not documentation; benches and examples have commands of their own. */
const allTargets = ['--lib', '--bins', '--tests']

/** The tests that need no integration test but the one that reads the sources. */
const unitTargets = ['--lib', '--test', 'invariants']

/** @param {string[]} targets */
function rustTests(targets) {
  if (ask('cargo', ['nextest', '--version']) !== null) {
    return tests('cargo', ['nextest', 'run', '--release', '--no-fail-fast', ...targets], nextestCounts, native())
  }
  return tests('cargo', ['test', '--release', '--no-fail-fast', ...targets], cargoCounts, native())
}

/** Whoever uses the library without the command line and without a graphics card compiles it like this. */
const clippyOfTheBareLibrary = () =>
  check('cargo', ['clippy', '--release', '--lib', '--no-default-features', '--', '-D', 'warnings'], native())

/** The page's types are those of the engine. */
async function protocolIsCurrent() {
  const old = await oldProtocol()
  return old.length === 0
    ? pass
    : fail(
        `${old.join(', ')} in www/engine/protocol/ is not what the engine's types say: run npm run protocol, and look ` +
          'at what changes',
      )
}

/** The documentation has no broken link. */
const documentation = () =>
  check('cargo', ['doc', '--release', '--no-deps', '--lib'], {
    env: cargoEnv(nativeTarget, { RUSTDOCFLAGS: '-D warnings' }),
  })

/** The tests of `tests/wasm.rs`, compiled like the page's engine and run in the browser by its driver. */
async function rustTestsInBrowser() {
  const [browser, driver] = [findBrowser(), findDriver()]
  if (!inCheckout('tests/wasm.rs')) return skip('there is no tests/wasm.rs')
  if (!browser || !driver) return skip(browser ? 'there is no chromedriver' : 'there is no Chromium')
  const folder = mkdtempSync(join(tmpdir(), 'laminate-webdriver-'))
  try {
    const capabilities = join(folder, 'webdriver.json')
    writeFileSync(capabilities, JSON.stringify({ 'goog:chromeOptions': { binary: browser, args: browserFlags() } }))
    const env = {
      ...wasmEnv(),
      CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER: bindgen('wasm-bindgen-test-runner') ?? '',
      CHROMEDRIVER: driver,
      WASM_BINDGEN_TEST_WEBDRIVER_JSON: capabilities,
      WASM_BINDGEN_TEST_TIMEOUT: '600',
    }
    return await tests('cargo', ['test', '--profile', 'wasm', '--target', WASM, '--test', 'wasm'], cargoCounts, { env })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** The page with a mock engine and with the real one. Without a browser the tests skip themselves and are counted. */
const pageTests = () =>
  vitest(['--config', 'tests/web/e2e/vitest.config.ts'], { env: { CHROMIUM: findBrowser() ?? '' } })

/** What we write is loaded by the library that everybody uses; `LAMINATE` is the command line that writes it. */
async function consumerTests() {
  const python = await preparePython()
  if (!python)
    return skip(
      'no Python with torch and transformers (LAMINATE_PYTHON names one; LAMINATE_CONSUMERS=install fetches them, 3 GB)',
    )
  if (!inCheckout('tests/consumers')) return skip('there is no tests/consumers')
  const llama = await prepareLlama()
  return unittest(python, 'tests/consumers', {
    env: { LAMINATE: await commandLine(), LLAMA: llama ?? '', PYTHONDONTWRITEBYTECODE: '1' },
  })
}

async function llamaTests() {
  const llama = await prepareLlama()
  if (!llama) return skip('node-llama-cpp has no library for this system')
  return nodeTest('tests/consumers/llama.test.mjs', { env: { LAMINATE: await commandLine(), LLAMA: llama } })
}

/** Builds the command line and says where it is. */
async function commandLine() {
  await run('cargo', ['build', '--release', '--bin', 'laminate'], native())
  return join(nativeTarget, 'release', process.platform === 'win32' ? 'laminate.exe' : 'laminate')
}

/**
 * A step that gives an outcome is a test; one that gives words or nothing prepares for those that need it.
 * `coveredBy` names the step that does the same and more, so that only who asks for this one by its key runs it.
 * `ahead` starts a step at once, beside the steps before it: the step waits for a network, prints nothing and needs
 * no other.
 * @typedef {{ key: string, name: string, needs?: string[], coveredBy?: string, ahead?: boolean, run: () => unknown }} TestStep
 */

/** @type {TestStep[]} */
export const testSteps = [
  { key: 'packages', name: 'npm packages', run: installPackages },
  { key: 'rust', name: 'Rust and its WebAssembly target', run: prepareRust },
  { key: 'linters', name: 'rustfmt and clippy', needs: ['rust'], run: prepareLinters },
  {
    key: 'fmt',
    name: 'Rust format',
    needs: ['linters'],
    run: () => check('cargo', ['fmt', '--check', '--', '--color', 'never', kernelSource]),
  },
  {
    key: 'types',
    name: 'TypeScript types',
    needs: ['packages'],
    run: () => nodeCheck('typescript/bin/tsc', ['--noEmit']),
  },
  {
    key: 'svelte',
    name: 'Svelte types',
    needs: ['packages'],
    run: () => nodeCheck('svelte-check/bin/svelte-check', ['--fail-on-warnings', '--output', 'human']),
  },
  {
    key: 'lint',
    name: 'Lint of the page',
    needs: ['packages'],
    run: () => nodeCheck('eslint/bin/eslint.js', ['--max-warnings', '0', '.']),
  },
  {
    key: 'format',
    name: 'Format of the page and its scripts',
    needs: ['packages'],
    run: () => nodeCheck('prettier/bin/prettier.cjs', ['--check', '--log-level', 'warn', '.']),
  },
  {
    key: 'imports',
    name: 'Imports: directions and circles',
    needs: ['packages'],
    run: () =>
      nodeCheck('dependency-cruiser/bin/dependency-cruise.mjs', [
        '--config',
        '.dependency-cruiser.mjs',
        'www',
        'package',
      ]),
  },
  {
    key: 'unused',
    name: 'Unused files, exports and packages',
    needs: ['packages'],
    run: () => nodeCheck('knip/bin/knip.js', ['--no-progress']),
  },
  { key: 'unit', name: 'Unit tests of the page', needs: ['packages'], run: () => vitest([]) },
  {
    key: 'clippy',
    name: 'Rust lint',
    needs: ['linters'],
    run: () => check('cargo', ['clippy', '--release', '--all-targets', '--', '-D', 'warnings'], native()),
  },
  { key: 'features', name: 'Rust lint, library without features', needs: ['linters'], run: clippyOfTheBareLibrary },
  { key: 'rustdoc', name: 'Rust documentation', needs: ['rust'], run: documentation },
  {
    key: 'clippy-wasm',
    name: 'Rust lint, WebAssembly',
    needs: ['linters'],
    run: () =>
      check('cargo', ['clippy', '--profile', 'wasm', '--target', WASM, '--lib', '--', '-D', 'warnings'], wasm()),
  },
  {
    key: 'rust-unit',
    name: 'Rust unit tests',
    needs: ['rust'],
    coveredBy: 'native',
    run: () => rustTests(unitTargets),
  },
  {
    key: 'protocol',
    name: "The page's types are the engine's",
    needs: ['rust', 'packages'],
    run: protocolIsCurrent,
  },
  { key: 'native', name: 'Rust tests, native', needs: ['rust'], run: () => rustTests(allTargets) },
  {
    key: 'doc',
    name: 'Rust tests in the documentation',
    needs: ['rust'],
    run: () => tests('cargo', ['test', '--release', '--doc'], cargoCounts, native()),
  },
  { key: 'bindgen', name: 'wasm-bindgen and its test runner', needs: ['rust'], run: prepareBindgen },
  { key: 'browser', name: 'Browser', ahead: true, run: prepareBrowser },
  { key: 'engine', name: 'Engine: Rust to WebAssembly', needs: ['bindgen'], run: buildEngine },
  {
    key: 'wasm',
    name: 'Rust tests, WebAssembly in the browser',
    needs: ['bindgen', 'browser'],
    run: rustTestsInBrowser,
  },
  { key: 'page', name: 'Page', needs: ['packages', 'engine'], run: buildPage },
  { key: 'e2e', name: 'Page in the browser', needs: ['packages', 'engine', 'browser'], run: pageTests },
  { key: 'llama-packages', name: 'llama.cpp', ahead: true, run: prepareLlama },
  { key: 'llama', name: 'Written models in llama.cpp', needs: ['rust', 'llama-packages'], run: llamaTests },
  { key: 'consumers', name: 'Written models in transformers', needs: ['rust'], run: consumerTests },
]

/** The steps with these keys and all that they need, in the order above; without keys every test there is. @param {string[]} keys */
export function chosen(keys) {
  const unknown = keys.filter(key => !testSteps.some(step => step.key === key))
  if (unknown.length > 0)
    throw new Error(`There is no step ${unknown.join(', ')}. The steps: ${testSteps.map(step => step.key).join(', ')}`)
  const wanted = new Set(keys.length > 0 ? keys : testSteps.filter(step => !step.coveredBy).map(step => step.key))
  for (const step of testSteps.toReversed()) if (wanted.has(step.key)) step.needs?.forEach(need => wanted.add(need))
  return testSteps.filter(step => wanted.has(step.key))
}

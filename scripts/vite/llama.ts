import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Plugin } from 'vite'

const VIRTUAL = 'virtual:llama-worker'
const PACKAGE = dirname(createRequire(import.meta.url).resolve('@wllama/wllama/package.json'))
const WORKER = fileURLToPath(new URL('../../www/try/llama.worker.ts', import.meta.url))

/**
 * The package starts its worker from text, as a `blob:`, which the page's policy would have to allow for every
 * worker. Here the same text becomes a file of the page at build time, so that the policy stays as it is.
 * The package's version is fixed: a text that is not where it is expected ends the build.
 */
export function llamaWorker(): Plugin {
  return {
    name: 'llama-worker',
    resolveId: source => (source === VIRTUAL ? `\0${VIRTUAL}` : null),
    load: id => (id === `\0${VIRTUAL}` ? workerCode() : null),
    transform: (code, id) => (id.split('?', 1)[0]?.endsWith('@wllama/wllama/esm/index.js') ? startsOurs(code) : null),
  }
}

/** What the package would put together while the page runs: one thread, no graphics card. */
function workerCode(): string {
  const source = readFileSync(join(PACKAGE, 'src/workers-code/generated.ts'), 'utf8')
  const text = (name: string): string =>
    JSON.parse(only(source, new RegExp(`^export const ${name} = (".*");$`, 'm'))[1]!)
  // Its branches for Node, which never run here, would be bundled.
  const main = text('WLLAMA_EMSCRIPTEN_CODE').replaceAll(/require\("\w+"\)/g, 'undefined')
  only(main, /var Module/)
  return [
    `import wasm from '@wllama/wllama/esm/wasm/wllama.wasm?url'`,
    `const RUN_OPTIONS = { pathConfig: { 'wllama.wasm': new URL(wasm, location.href).href }, nbThread: 0, compat: false }`,
    `Object.defineProperty(WorkerNavigator.prototype, 'gpu', { get: () => ({ requestAdapter: async () => null }) })`,
    `function wModuleInit() { ${main.replace('var Module', 'var ___Module')}; return Module }`,
    text('LLAMA_CPP_WORKER_CODE'),
  ].join(';\n')
}

function startsOurs(code: string): string {
  // The text that is a file now need not be in the page too.
  const without = code.replace('return WLLAMA_EMSCRIPTEN_CODE;', `return '';`)
  const [made] = only(code, /let moduleCode = JSPI_STUB \+ [^]*?this\.worker = createWorker\(completeCode\);/)
  return `import LlamaWorker from ${JSON.stringify(`${WORKER}?worker`)};\n${without.replace(made, () => `const moduleCode = '';\n      this.worker = new LlamaWorker();`)}`
}

function only(text: string, pattern: RegExp): RegExpExecArray {
  const match = pattern.exec(text)
  if (!match) throw new Error(`@wllama/wllama has changed: ${pattern} is not in it. See scripts/vite/llama.ts.`)
  return match
}

/**
 * Builds one module of the npm package into `dist-package`; the mode says which. Each module is one file, beside which lie
 * the files that the module needs: their addresses are `new URL('./NAME', import.meta.url)`, as browsers and bundlers understand
 * them. Vite by itself would put such files into the module, or name them in a way that the next bundler does not understand.
 */
import { readFileSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { defineConfig, type Plugin } from 'vite'
import { engineBytes } from './engine.ts'
import { MODULES } from '../modules.mjs'
import { version } from '../version.mjs'

const root = fileURLToPath(new URL('../../', import.meta.url))
const here = (path: string) => join(root, path)

/** Stands for `import.meta.url` until Vite has looked for it. */
const HERE = '__ADDRESS_OF_THIS_MODULE__'
const ADDRESS = /new URL\(\s*(?:'([^']+)'|"([^"]+)"),\s*import\.meta\.url\s*\)/g

/** Marks what stands for a file whose address is asked for. */
const ASKED = '\0address of '

/** Files that a module names by `new URL` or by `?url` lie beside the module. */
function filesBeside(): Plugin {
  const named = new Set<string>()
  const addressOf = (path: string) => {
    const module = Object.entries(MODULES).find(([, source]) => here(source) === path)?.[0]
    if (!module) named.add(path)
    return `new URL('./${module ? `${module}.js` : basename(path)}', ${HERE})`
  }
  return {
    name: 'files-beside',
    enforce: 'pre',
    resolveId: (source, importer) =>
      importer && source.endsWith('?url')
        ? ASKED + relative(root, join(dirname(importer), source.slice(0, -'?url'.length)))
        : null,
    load: id =>
      id.startsWith(ASKED)
        ? { code: `export default ${addressOf(here(id.slice(ASKED.length)))}.href`, moduleType: 'js' }
        : null,
    transform: (code, id) =>
      code.replace(ADDRESS, (_, single?: string, double?: string) => addressOf(join(dirname(id), single ?? double!))),
    renderChunk: code => code.replaceAll(HERE, 'import.meta.url'),
    generateBundle() {
      for (const path of named) this.emitFile({ type: 'asset', fileName: basename(path), source: readFileSync(path) })
    },
  }
}

export default defineConfig(({ mode }) => ({
  root,
  publicDir: false,
  define: { __LAMINATE_VERSION__: JSON.stringify(version), ENGINE_BYTES: String(engineBytes) },
  plugins: [filesBeside()],
  build: {
    target: 'es2023',
    outDir: here('dist-package'),
    emptyOutDir: false,
    minify: false,
    license: { fileName: `licences/${mode}.md` },
    lib: { entry: here(MODULES[mode]!), formats: ['es'], fileName: () => `${mode}.js` },
    rolldownOptions: { output: { codeSplitting: false } },
  },
}))

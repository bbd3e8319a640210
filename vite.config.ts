import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { svelte } from '@sveltejs/vite-plugin-svelte'
import type { Connect, Plugin } from 'vite'
import { configDefaults, defineConfig } from 'vitest/config'
import { engineBytes } from './scripts/vite/engine.ts'
import { llamaWorker } from './scripts/vite/llama.ts'
import { offline } from './scripts/vite/offline.ts'
import { version } from './scripts/version.mjs'
import { architectures } from './scripts/architectures.mjs'
import { answerSample } from './scripts/sample.mjs'
import { ISOLATING } from './www/offline/isolation.js'

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** The page's policy, from the page itself; sent as a header too, because a worker only heeds the header. */
const policy = /Content-Security-Policy"\s+content="([^"]+)"/.exec(readFileSync(here('index.html'), 'utf8'))?.[1] ?? ''

/** `--mode mock`: the page with an engine that answers from stored numbers, for tests and for work on the page. */
function mockEngine(): Plugin {
  return {
    name: 'mock-engine',
    enforce: 'pre',
    resolveId: source => (source === './wasm' ? here('tests/web/mock/wasm.ts') : null),
  }
}

/** What `npm run sample` has fetched, as the server of `npm start` has it. */
function sampleModel(): Plugin {
  const serve: Connect.NextHandleFunction = (request, response, next) => {
    if (!answerSample(request, response)) next()
  }
  return {
    name: 'sample-model',
    configureServer: server => void server.middlewares.use(serve),
    configurePreviewServer: server => void server.middlewares.use(serve),
  }
}

/** The development server injects styles and opens a socket; the built page does neither. */
function looserPolicyWhileDeveloping(): Plugin {
  return {
    name: 'looser-policy-while-developing',
    apply: 'serve',
    transformIndexHtml: html =>
      html
        .replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
        .replace("connect-src 'self'", "connect-src 'self' ws:"),
  }
}

export default defineConfig(({ mode, isPreview }) => {
  const mock = mode === 'mock' ? [mockEngine()] : []
  return {
    // Any folder of any host: nothing is addressed from its top.
    base: './',
    publicDir: false,
    define: {
      __LAMINATE_VERSION__: JSON.stringify(version),
      ENGINE_BYTES: String(engineBytes),
      ARCHITECTURE_NAMES: JSON.stringify(architectures()),
    },
    plugins: [
      svelte(),
      sampleModel(),
      llamaWorker(),
      offline(),
      ...mock,
      ...(isPreview ? [] : [looserPolicyWhileDeveloping()]),
    ],
    worker: { format: 'es', plugins: () => [llamaWorker(), ...mock] },
    optimizeDeps: { exclude: ['@wllama/wllama'] },
    build: { target: 'es2023', assetsInlineLimit: 0, modulePreload: { polyfill: false }, chunkSizeWarningLimit: 1000 },
    server: { watch: { ignored: ['**/target/**'] } },
    preview: {
      headers: {
        'Content-Security-Policy': `${policy}; frame-ancestors 'none'`,
        'X-Content-Type-Options': 'nosniff',
        'Referrer-Policy': 'no-referrer',
        ...ISOLATING,
      },
    },
    resolve: process.env.VITEST ? { conditions: ['browser'] } : {},
    test: {
      include: ['tests/web/**/*.test.ts'],
      css: { include: /report\.css/ },
      exclude: [...configDefaults.exclude, 'tests/web/e2e/**'],
    },
  }
})

import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build, type Plugin, type Rolldown } from 'vite'
import { ICONS, iconFile } from '../icons.mjs'
import { isFirst, isKept } from '../kept.mjs'
import type { PageFile } from '../../www/offline/messages'

const KEEPER = fileURLToPath(new URL('../../www/offline/service.ts', import.meta.url))

const MANIFEST = {
  id: './',
  start_url: './',
  scope: './',
  display: 'standalone',
  name: 'Laminate',
  short_name: 'Laminate',
  lang: 'en',
  categories: ['education', 'science', 'developer'],
  description: 'Find the layers of a language model that repeat each other, merge them, see what it costs.',
  background_color: '#fbfaf8',
  theme_color: '#fbfaf8',
  file_handlers: [{ action: './', accept: { 'application/octet-stream': ['.gguf'] } }],
  icons: ICONS.map(({ path, side, maskable }) => ({
    src: path,
    sizes: `${side}x${side}`,
    type: 'image/png',
    purpose: maskable ? 'maskable' : 'any',
  })),
}

/** What makes the built page installable and lets it work without a network: manifest, icons, and the worker that keeps it. */
export function offline(): Plugin {
  let folder = ''
  return {
    name: 'offline',
    apply: 'build',
    configResolved: ({ root, build: { outDir } }) => {
      folder = resolve(root, outDir)
    },
    transformIndexHtml: {
      order: 'post',
      handler: () => [
        { tag: 'link', attrs: { rel: 'manifest', href: './manifest.webmanifest' }, injectTo: 'head' },
        { tag: 'link', attrs: { rel: 'apple-touch-icon', href: './icons/apple-touch-180.png' }, injectTo: 'head' },
      ],
    },
    generateBundle() {
      for (const icon of ICONS) this.emitFile({ type: 'asset', fileName: icon.path, source: iconFile(icon) })
      this.emitFile({ type: 'asset', fileName: 'manifest.webmanifest', source: JSON.stringify(MANIFEST) })
    },
    async writeBundle(_, bundle) {
      const files = Object.keys(bundle)
        .sort()
        .filter(isKept)
        .map(name => pageFile(name, readFileSync(join(folder, name))))
      writeFileSync(join(folder, 'offline.js'), await keeper(files))
    },
  }
}

function pageFile(name: string, content: Buffer): PageFile {
  const digest = createHash('sha256').update(content).digest('hex').slice(0, 16)
  if (name !== 'index.html') return { path: name, digest, atOnce: isFirst(name) }
  const mentions = [...new Set(content.toString('utf8').match(/assets\/[\w.-]+/g))]
  return { path: '', digest, atOnce: true, mentions }
}

/** The worker as one classic script, with the list of files in it: any change of the page is a change of the worker. */
async function keeper(files: PageFile[]): Promise<string> {
  const built = await build({
    configFile: false,
    logLevel: 'warn',
    define: { PAGE_FILES: JSON.stringify(files) },
    build: { write: false, target: 'es2023', lib: { entry: KEEPER, formats: ['iife'], name: 'keeper' } },
  })
  const [output] = [built].flat() as Rolldown.RolldownOutput[]
  return output!.output[0].code
}

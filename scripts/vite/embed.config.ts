/** Builds the heatmap for other people's pages into `dist/embed`: one file. */
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vite'
import { version } from '../version.mjs'

const here = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))

export default defineConfig({
  root: here('.'),
  publicDir: false,
  define: { __LAMINATE_VERSION__: JSON.stringify(version) },
  build: {
    target: 'es2023',
    outDir: here('dist/embed'),
    emptyOutDir: true,
    lib: { entry: here('www/share/embed/element.ts'), formats: ['es'], fileName: () => 'heatmap.js' },
  },
})

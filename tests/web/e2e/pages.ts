import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { TestProject } from 'vitest/node'
import { nodeProgram, root } from '../../../scripts/paths.mjs'

/** The compiled engine, without which the page can only be built with the mock. */
export const ENGINE = 'www/engine/pkg/laminate_bg.wasm'

/** The folders of the built pages; `real` is empty where the engine has not been compiled. */
export interface Pages {
  mock: string
  real: string
}

declare module 'vitest' {
  interface ProvidedContext {
    pages: Pages
  }
}

/** Builds the page with each engine, once for all test files, as a process of its own does for a visitor. */
export default async function setup(project: TestProject): Promise<() => void> {
  const folder = mkdtempSync(join(tmpdir(), 'laminate-pages-'))
  const built = async (mode: string) => {
    const outDir = join(folder, mode)
    // Vitest's own variables would make the page that of a developer.
    const { NODE_ENV: _, VITEST: __, ...env } = process.env
    await promisify(execFile)(
      process.execPath,
      [
        nodeProgram('vite/bin/vite.js'),
        'build',
        '--mode',
        mode,
        '--outDir',
        outDir,
        '--emptyOutDir',
        '--logLevel',
        'warn',
      ],
      { cwd: root, env },
    )
    return outDir
  }
  const [mock, real] = await Promise.all([built('mock'), existsSync(ENGINE) ? built('production') : ''])
  project.provide('pages', { mock, real })
  return () => rmSync(folder, { recursive: true, force: true })
}

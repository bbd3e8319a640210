// @ts-check
/** A Python that has PyTorch and transformers, for the tests that load what we write with them. */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { ask, run } from './command.mjs'
import { root, tools } from './paths.mjs'

const requirements = join(root, 'tests', 'consumers', 'requirements.txt')
/** Packages whose metadata asks for other releases than the pinned ones, with which they work. */
const alone = join(root, 'tests', 'consumers', 'requirements-alone.txt')

const question = `
import importlib.util, sys
sys.exit(any(importlib.util.find_spec(name) is None for name in ("torch", "transformers", "safetensors")))`

/** `LAMINATE_PYTHON`, else the environment of the cache, else python3, if it has the packages; null otherwise. */
export function findPython() {
  const candidates = [process.env.LAMINATE_PYTHON ?? '', pythonOf(environment()), 'python3']
  return candidates.find(python => python !== '' && ask(python, ['-c', question]) !== null) ?? null
}

/**
 * As `findPython`. Where none is found, continuous integration (`CI`) and whoever sets `LAMINATE_CONSUMERS=install` get an
 * environment with the pinned packages in the cache; at home nobody is made to fetch 3 GB.
 */
export async function preparePython() {
  const found = findPython()
  const wanted = process.env.CI || process.env.LAMINATE_CONSUMERS === 'install'
  if (found || !wanted || ask('python3', ['-c', 'import ensurepip, venv']) === null) return found
  console.log('      Fetching PyTorch and transformers: about 3 GB, and 7 GB in the cache.')
  const [folder, unfinished] = [environment(), `${environment()}.unfinished`]
  rmSync(unfinished, { recursive: true, force: true })
  await run('python3', ['-m', 'venv', unfinished])
  await run(pythonOf(unfinished), [
    '-m',
    'pip',
    'install',
    '--quiet',
    '--disable-pip-version-check',
    '-r',
    requirements,
  ])
  await run(pythonOf(unfinished), [
    '-m',
    'pip',
    'install',
    '--quiet',
    '--disable-pip-version-check',
    '--no-deps',
    '-r',
    alone,
  ])
  renameSync(unfinished, folder)
  return findPython()
}

/** One environment for each list of packages. */
const environment = () => {
  const hash = createHash('sha256').update(readFileSync(requirements)).update(readFileSync(alone)).digest('hex')
  return join(tools, `python-${hash.slice(0, 12)}`)
}

/** @param {string} folder */
function pythonOf(folder) {
  const python = process.platform === 'win32' ? join(folder, 'Scripts', 'python.exe') : join(folder, 'bin', 'python')
  return existsSync(python) || folder.endsWith('.unfinished') ? python : ''
}

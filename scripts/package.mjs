// @ts-check
/** `npm run package`: builds the engine for other people's pages as an npm package into `dist-package`, and packs it there. */
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { generateDtsBundle } from 'dts-bundle-generator'
import { engineSteps } from './buildsteps.mjs'
import { inMb } from './kept.mjs'
import { MODULES, TYPED } from './modules.mjs'
import { npm } from './packages.mjs'
import { vite } from './page.mjs'
import { root } from './paths.mjs'
import { runSteps, script } from './steps.mjs'
import { version } from './version.mjs'

const folder = join(root, 'dist-package')

/** What `package.json` of the package says, in the version of the whole project. */
export function manifest() {
  const { name, ...others } = JSON.parse(readFileSync(join(root, 'package/package.json'), 'utf8'))
  return { name, version, ...others }
}

/**
 * Fills a folder with the package and packs it into a tarball beside. Gives the tarball's path and how large it is, packed
 * and unpacked. @param {string} into
 */
export async function buildPackage(into = folder) {
  rmSync(into, { recursive: true, force: true })
  mkdirSync(into, { recursive: true })
  for (const module of Object.keys(MODULES))
    await vite([
      'build',
      '--logLevel',
      'warn',
      '--config',
      'scripts/vite/package.config.ts',
      '--mode',
      module,
      '--outDir',
      into,
    ])
  dropEmptyLicences(join(into, 'licences'))
  writeTypes(into)
  for (const file of ['LICENSE-MIT', 'LICENSE-APACHE']) copyFileSync(join(root, file), join(into, file))
  copyFileSync(join(root, 'package/README.md'), join(into, 'README.md'))
  writeFileSync(join(into, 'package.json'), `${JSON.stringify(manifest(), null, 2)}\n`)
  const [packed] = JSON.parse(await npm(['pack', '--json'], { cwd: into, quiet: true }))
  return { tarball: join(into, packed.filename), bytes: packed.size, unpacked: packed.unpackedSize }
}

/** A module that bundles nobody else's code has no licences to tell. @param {string} licences */
function dropEmptyLicences(licences) {
  for (const file of readdirSync(licences).map(name => join(licences, name)))
    if (!readFileSync(file, 'utf8').includes('\n## ')) rmSync(file)
}

/** One file of types for each module that others import. @param {string} into */
function writeTypes(into) {
  const entries = TYPED.map(module => ({
    filePath: join(root, MODULES[module] ?? ''),
    // The element is known to the whole page, but only once.
    output: { noBanner: true, exportReferencedTypes: false, inlineDeclareGlobals: module === 'heatmap' },
  }))
  const types = generateDtsBundle(entries, { preferredConfigPath: join(root, 'package/tsconfig.json') })
  TYPED.forEach((module, i) => writeFileSync(join(into, `${module}.d.ts`), types[i] ?? ''))
}

async function step() {
  const { tarball, bytes, unpacked } = await buildPackage()
  return `${tarball}: ${inMb(bytes)}, unpacked ${inMb(unpacked)}`
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  await script(() => runSteps([...engineSteps, { name: 'Package', run: step }]))

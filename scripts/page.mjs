// @ts-check
/** The page: TypeScript and Svelte to what a browser loads. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { run } from './command.mjs'
import { compressFolder } from './compress.mjs'
import { filesUnder, fingerprint, isCurrent, markCurrent } from './fingerprint.mjs'
import { firstVisit, inMb, withinBudget } from './kept.mjs'
import { dist, enginePackage, nodeProgram, root } from './paths.mjs'

/** Everything that Vite reads: the page, the engine's files, the settings at the top, the packages' versions. */
function pagePrint() {
  const settings = readdirSync(root).filter(name => /\.(html|json|[jt]s)$/.test(name))
  const own = ['architectures.mjs', 'compress.mjs', 'icons.mjs', 'kept.mjs', 'version.mjs'].map(name =>
    join(root, 'scripts', name),
  )
  const files = [
    ...filesUnder(
      [...settings, 'www', 'src/prose', 'src/demo', 'scripts/vite'].map(path => join(root, path)),
      [enginePackage],
    ),
    ...own,
  ]
  const engine = readFileSync(join(enginePackage, '.fingerprint'), 'utf8')
  return fingerprint(root, files, [engine, process.version])
}

/** Builds `dist`, if anything that goes into it has changed. @param {boolean} limited whether a first visit must not transfer too much */
export async function buildPage(limited = true) {
  const print = pagePrint()
  if (isCurrent(dist, print)) return 'nothing changed'
  await vite(['build', '--logLevel', 'warn'])
  await vite(['build', '--logLevel', 'warn', '--config', 'scripts/vite/embed.config.ts'])
  const visit = firstVisit(await compressFolder(dist), readFileSync(join(dist, 'index.html'), 'utf8'))
  if (limited) {
    withinBudget(visit)
    markCurrent(dist, print)
  }
  return `a first visit transfers ${inMb(visit.visit)}, ${inMb(visit.page)} of it before the page can be used`
}

/** @param {string[]} args */
export const vite = args => run(process.execPath, [nodeProgram('vite/bin/vite.js'), ...args])

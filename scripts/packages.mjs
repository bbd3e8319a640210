// @ts-check
/** The npm packages, as `package-lock.json` has them. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { run } from './command.mjs'
import { missingPackages } from './lockfile.mjs'
import { root } from './paths.mjs'

/** @param {string} path */
const json = path => JSON.parse(readFileSync(path, 'utf8'))

/** Installs the packages where they are missing or are not those of the lock file. */
export async function installPackages() {
  const lock = join(root, 'package-lock.json')
  const installed = join(root, 'node_modules', '.package-lock.json')
  if (existsSync(lock) && existsSync(installed) && missingPackages(json(lock), json(installed)).length === 0) {
    return 'already installed'
  }
  await npm([existsSync(lock) ? 'ci' : 'install', '--include=dev', '--no-audit', '--no-fund'])
}

/** @param {string[]} args @param {import('./command.mjs').Options} [options] */
export function npm(args, options) {
  // Under `npm start` this is the very npm that was called; by name, Windows needs a shell for `npm.cmd`.
  const script = process.env.npm_execpath
  if (script?.endsWith('.js')) return run(process.execPath, [script, ...args], options)
  return process.platform === 'win32' ? run('cmd', ['/c', 'npm', ...args], options) : run('npm', args, options)
}

// @ts-check
/** Tells whether the inputs of a step have changed since its output was made. */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join, relative, sep } from 'node:path'

/** Every file under the paths, sorted, dot files left out. @param {string[]} paths @param {string[]} [except] @returns {string[]} */
export function filesUnder(paths, except = []) {
  return paths
    .filter(path => existsSync(path) && !except.includes(path))
    .flatMap(path => {
      if (!statSync(path).isDirectory()) return [path]
      const inside = readdirSync(path).filter(name => !name.startsWith('.'))
      return filesUnder(
        inside.map(name => join(path, name)),
        except,
      )
    })
    .sort()
}

/**
 * A digest over names and contents of files and over facts that matter too (versions, flags). Contents, not
 * times: a fresh clone has new times. @param {string} base @param {string[]} files @param {string[]} [facts]
 */
export function fingerprint(base, files, facts = []) {
  const hash = createHash('sha256')
  for (const fact of facts) hash.update(`fact ${fact.length} ${fact}\n`)
  for (const file of files) {
    const content = readFileSync(file)
    hash.update(`file ${relative(base, file).split(sep).join('/')} ${content.length}\n`).update(content)
  }
  return hash.digest('hex')
}

/** Beside the output, so that deleting the output deletes it too. @param {string} folder */
const stampOf = folder => join(folder, '.fingerprint')

/** @param {string} folder @param {string} print */
export function isCurrent(folder, print) {
  const stamp = stampOf(folder)
  return existsSync(stamp) && readFileSync(stamp, 'utf8') === print
}

/** @param {string} folder @param {string} print */
export function markCurrent(folder, print) {
  writeFileSync(stampOf(folder), print)
}

// @ts-check
/** The architectures that the engine knows, as its tables name them: the page says them before the engine has arrived. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './paths.mjs'

const TABLES = join(root, 'src/model/architectures')

/** In the order of the engine's list. */
export function architectures() {
  const read = (/** @type {string} */ file) => readFileSync(join(TABLES, file), 'utf8')
  const [, list = ''] = /static ALL: \[[^=]*= \[(.*?)\];/s.exec(read('mod.rs')) ?? []
  const tables = readdirSync(TABLES)
    .filter(file => file.endsWith('.rs'))
    .map(read)
    .join('\n')
  const names = [...list.matchAll(/&\w+::(\w+)/g)].map(([, table]) => {
    const [, name] =
      new RegExp(`\\bconst ${table}: Architecture = Architecture \\{\\s*name: "([^"]+)"`).exec(tables) ?? []
    if (!name) throw new Error(`${TABLES}: the table ${table} does not begin with its name`)
    return name
  })
  if (names.length === 0) throw new Error(`${TABLES}/mod.rs: the list of all architectures was not found`)
  return names
}

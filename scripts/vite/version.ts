/** The version of the engine is that of the page: recipes and reports name it. */
import { readFileSync } from 'node:fs'

export const version =
  /^version = "(.+)"$/m.exec(readFileSync(new URL('../../Cargo.toml', import.meta.url), 'utf8'))?.[1] ?? ''

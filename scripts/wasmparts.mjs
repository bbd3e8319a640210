// @ts-check
/** Takes a WebAssembly module apart: which bytes belong to which crate. Pure: bytes in, parts out. */

/** Whatever crate calls for them, these are nobody's own choice. */
const COMMON = new Set(['core', 'alloc', 'std', 'compiler_builtins', 'hashbrown', 'dlmalloc'])

/** @typedef {{ name: string, bytes: Uint8Array }} Part */

/** Reads the module's numbers, least significant seven bits first. */
class Reader {
  /** @param {Uint8Array} bytes @param {number} [at] */
  constructor(bytes, at = 0) {
    this.bytes = bytes
    this.at = at
  }

  number() {
    let value = 0
    for (let shift = 1; ; shift *= 128) {
      const byte = this.bytes[this.at++]
      if (byte === undefined) throw new Error('The module ends in the middle of a number.')
      value += (byte & 127) * shift
      if (byte < 128) return value
    }
  }

  /** @param {number} length */
  take(length) {
    if (this.at + length > this.bytes.length) throw new Error('The module ends in the middle of a part.')
    return this.bytes.subarray(this.at, (this.at += length))
  }

  text() {
    return new TextDecoder().decode(this.take(this.number()))
  }

  get ended() {
    return this.at >= this.bytes.length
  }
}

/** The sections of a module, custom ones by their names. @param {Uint8Array} module */
export function sections(module) {
  if (new TextDecoder().decode(module.subarray(0, 4)) !== '\0asm') throw new Error('This is not a WebAssembly module.')
  const reader = new Reader(module, 8)
  /** @type {{ id: number, name: string, content: Uint8Array }[]} */
  const found = []
  while (!reader.ended) {
    const id = reader.number()
    const content = new Reader(reader.take(reader.number()))
    const name = id === 0 ? content.text() : ''
    found.push({ id, name, content: content.bytes.subarray(content.at) })
  }
  return found
}

/** How many functions are imported: they come first in the counting. @param {Uint8Array | undefined} content */
function importedFunctions(content) {
  if (!content) return 0
  const reader = new Reader(content)
  let functions = 0
  for (let left = reader.number(); left > 0; left--) {
    reader.text()
    reader.text()
    const kind = reader.number()
    if (kind === 0) {
      functions++
      reader.number()
    } else if (kind === 1) {
      reader.take(1)
      limits(reader)
    } else if (kind === 2) limits(reader)
    else if (kind === 3) reader.take(2)
    else {
      reader.take(1)
      reader.number()
    }
  }
  return functions
}

/** @param {Reader} reader */
function limits(reader) {
  const flags = reader.number()
  reader.number()
  if (flags & 1) reader.number()
}

/** Names of functions by number. @param {Uint8Array | undefined} content */
function functionNames(content) {
  /** @type {Map<number, string>} */
  const names = new Map()
  if (!content) return names
  const reader = new Reader(content)
  while (!reader.ended) {
    const kind = reader.number()
    const part = new Reader(reader.take(reader.number()))
    if (kind !== 1) continue
    for (let left = part.number(); left > 0; left--) names.set(part.number(), part.text())
  }
  return names
}

/** Every function with its name, if the module still has names, and every piece of data as "data". @param {Uint8Array} module @returns {Part[]} */
export function partsOf(module) {
  const all = sections(module)
  const content = (/** @type {number} */ id) => all.find(section => section.id === id)?.content
  const names = functionNames(all.find(section => section.name === 'name')?.content)
  const [code, data] = [content(10), content(11)]
  /** @type {Part[]} */
  const parts = []
  if (code) {
    const reader = new Reader(code)
    const first = importedFunctions(content(2))
    const total = reader.number()
    for (let i = 0; i < total; i++)
      parts.push({ name: demangled(names.get(first + i) ?? ''), bytes: reader.take(reader.number()) })
  }
  if (data) parts.push({ name: 'data', bytes: data })
  return parts
}

/** What stands in mangled names for what identifiers cannot hold. */
const SIGNS = /** @type {Record<string, string>} */ ({
  SP: '@',
  BP: '*',
  RF: '&',
  LT: '<',
  GT: '>',
  LP: '(',
  RP: ')',
  C: ',',
})

/** A Rust path out of the name that the linker knows: lengths before identifiers, a hash at the end. @param {string} name */
export function demangled(name) {
  if (!name.startsWith('_ZN')) return name
  const words = []
  for (let at = 3; ;) {
    const length = /^\d+/.exec(name.slice(at))?.[0]
    if (!length) break
    words.push(name.slice(at + length.length, at + length.length + Number(length)))
    at += length.length + Number(length)
  }
  if (/^h[0-9a-f]{16}$/.test(words.at(-1) ?? '')) words.pop()
  const signs = (/** @type {string} */ word) =>
    word
      .replace(/^_\$/, '$')
      .replaceAll('..', '::')
      .replace(
        /\$([A-Z]+|u[0-9a-f]+)\$/g,
        (_, sign) => SIGNS[sign] ?? String.fromCodePoint(parseInt(sign.slice(1), 16)),
      )
  return words.map(signs).join('::')
}

/**
 * The crate that a function is there for: the first that its name speaks of and that is not the standard
 * library, so that `drop_in_place::<naga::Module>` is naga's. @param {string} name
 */
export function crateOf(name) {
  const crates = [...name.matchAll(/(?<![\w:])([a-z_][a-z0-9_]*)(?:\[[0-9a-f]+\])?::/g)].map(([, crate = '']) => crate)
  return (
    crates.find(crate => !COMMON.has(crate)) ?? (crates.length > 0 ? 'std' : name === '' ? 'without a name' : 'std')
  )
}

/** The bytes of each group, largest group first. @param {Part[]} parts @param {(name: string) => string} groupOf */
export function grouped(parts, groupOf) {
  /** @type {Map<string, Uint8Array[]>} */
  const groups = new Map()
  for (const { name, bytes } of parts) {
    const group = name === 'data' ? 'data' : groupOf(name)
    const pieces = groups.get(group)
    if (pieces) pieces.push(bytes)
    else groups.set(group, [bytes])
  }
  const length = (/** @type {Uint8Array[]} */ pieces) => pieces.reduce((sum, { byteLength }) => sum + byteLength, 0)
  return [...groups]
    .map(([name, pieces]) => ({
      name,
      bytes: length(pieces),
      functions: pieces.length,
      content: Buffer.concat(pieces),
    }))
    .sort((a, b) => b.bytes - a.bytes)
}

/** Id of the section of imports, and kinds of what is imported. */
const IMPORTS = 2
const MEMORY = 2
/** Flags of the limits of a memory: that there is a maximum, and that threads share the memory. */
const SHARED_WITH_MAXIMUM = 3
/** Pages of 64 KiB that a memory of 32-bit addresses can have. */
const MOST_PAGES = 65_536

/**
 * The same module with its only import, a memory without a maximum, as a memory that threads share. The compiler makes
 * such modules for a standard library only that has been compiled for threads; the module uses none, and what works in the
 * memory at the same time is up to its callers.
 * @param {Uint8Array} module @returns {Uint8Array}
 */
export function inSharedMemory(module) {
  const reader = new Reader(module, 8)
  while (!reader.ended) {
    const start = reader.at
    const id = reader.number()
    const content = new Reader(reader.take(reader.number()))
    if (id !== IMPORTS) continue
    const count = content.number()
    content.text()
    content.text()
    const limitsAt = content.at + 1
    if (count !== 1 || content.number() !== MEMORY || content.number() !== 0)
      throw new Error('The module does not import a memory without a maximum, and nothing else.')
    // A module without data is content with one page; where its stack is, its callers say.
    content.number()
    const changed = [...content.bytes.subarray(0, limitsAt), SHARED_WITH_MAXIMUM, ...leb(1), ...leb(MOST_PAGES)]
    return Uint8Array.from([
      ...module.subarray(0, start),
      IMPORTS,
      ...leb(changed.length),
      ...changed,
      ...module.subarray(reader.at),
    ])
  }
  throw new Error('The module imports nothing.')
}

/** A number as WebAssembly writes it, least significant seven bits first. @param {number} value */
function leb(value) {
  const bytes = []
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) + 128)
  return [...bytes, value]
}

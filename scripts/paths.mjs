// @ts-check
/** Where things are. What takes long to make lies outside the checkout, so that the next clone finds it. */
import { homedir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('../', import.meta.url))

const { LAMINATE_CACHE, XDG_CACHE_HOME } = process.env
export const cache = LAMINATE_CACHE || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'laminate')

/** One folder a target: cargo locks the whole folder, so builds in the same one wait for each other. */
export const nativeTarget = join(cache, 'native')
export const wasmTarget = join(cache, 'wasm')
export const tools = join(cache, 'tools')

export const enginePackage = join(root, 'www', 'engine', 'pkg')
export const dist = join(root, 'dist')

/** The program of an npm package, started with node itself: no shell, and the same on every system. */
export const nodeProgram = (/** @type {string} */ path) => join(root, 'node_modules', path)

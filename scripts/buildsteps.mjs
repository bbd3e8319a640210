// @ts-check
/** What lies between a fresh clone and a built page or package. */
import { buildEngine } from './engine.mjs'
import { installPackages } from './packages.mjs'
import { buildPage } from './page.mjs'
import { prepareBindgen, prepareRust } from './rust.mjs'

/** Up to the compiled engine. @type {import('./steps.mjs').Step[]} */
export const engineSteps = [
  { name: 'Rust and its WebAssembly target', run: prepareRust },
  { name: 'npm packages', run: installPackages },
  { name: 'wasm-bindgen (compiled the first time, then kept)', run: prepareBindgen },
  { name: 'Engine: Rust to WebAssembly (the first time about 8 minutes)', run: buildEngine },
]

/** @type {import('./steps.mjs').Step[]} */
export const buildSteps = [...engineSteps, { name: 'Page', run: buildPage }]

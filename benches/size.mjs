// What a first visit transfers, and what each large part of the engine takes of it: `npm run bench -- size`.
// Functions are told apart by the names that the compiler gave them, which the page's copy no longer has; a part's
// length in Brotli is that of its functions alone, one after the other, so the sum is a little off the whole.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { brotliCompressSync, constants } from 'node:zlib'
import { compressFolder } from '../scripts/compress.mjs'
import { namedModule } from '../scripts/engine.mjs'
import { BUDGET, firstVisit, inMb, isFirst } from '../scripts/kept.mjs'
import { buildPage } from '../scripts/page.mjs'
import { dist } from '../scripts/paths.mjs'
import { crateOf, grouped, partsOf } from '../scripts/wasmparts.mjs'

/** Crates that do one thing together. */
const PARTS = [
  ['shaders made, checked and sent to WebGPU', /^(naga|wgpu\w*|spirv|codespan\w*|petgraph|rspirv)$/],
  ['kernels for the GPU', /^(cubecl\w*|cubek\w*|burn_cubecl\w*|burn_wgpu)$/],
  ['tensors, and arithmetic on the CPU', /^(burn\w*|gemm\w*|macerator|ndarray|matrixmultiply)$/],
  ['linear algebra in f64', /^(faer\w*|nano_gemm\w*|private_gemm\w*|pulp|dyn_stack|reborrow)$/],
  ['tokenizers', /^(tokenizers|regex\w*|fancy_regex|aho_corasick|unicode\w*|spm\w*|onig|daachorse|esaxx\w*)$/],
  ['Laminate itself', /^laminate$/],
  ['JSON and reports', /^(serde\w*|safetensors|indexmap|ryu|itoa|zmij)$/],
  ['the standard library', /^std$/],
]
const partOf = name => PARTS.find(([, crates]) => crates.test(crateOf(name)))?.[0] ?? 'the rest'

const brotli = content =>
  brotliCompressSync(content, { params: { [constants.BROTLI_PARAM_QUALITY]: 9, [constants.BROTLI_PARAM_LGWIN]: 24 } })
    .length
const line = (name, bytes, compressed, functions) =>
  console.log(
    `  ${name.padEnd(44)} ${inMb(bytes).padStart(10)} ${inMb(compressed).padStart(10)} ${functions.toLocaleString('en-GB').padStart(9)}`,
  )

await buildPage(false)
const lengths = await compressFolder(dist)
console.log('A first visit, in Brotli:')
for (const [path, length] of [...lengths].filter(([path]) => isFirst(path)).sort((a, b) => b[1] - a[1]))
  console.log(`  ${path.padEnd(44)} ${inMb(length).padStart(10)}`)
const { visit, page } = firstVisit(lengths, readFileSync(join(dist, 'index.html'), 'utf8'))
console.log(
  `  the page ${inMb(page)} of ${inMb(BUDGET.page)}; with the engine and all that is fetched later ${inMb(visit)} of ${inMb(BUDGET.visit)}`,
)

const parts = partsOf(readFileSync(namedModule))
console.log('\nThe engine                                      as it is  in Brotli functions')
for (const { name, bytes, functions, content } of grouped(parts, partOf)) line(name, bytes, brotli(content), functions)
console.log('\nIts twenty largest crates')
for (const { name, bytes, functions, content } of grouped(parts, crateOf)
  .filter(({ name }) => name !== 'data')
  .slice(0, 20))
  line(name, bytes, brotli(content), functions)

// @ts-check
/**
 * Writes tests/web/verdicts.json: a comparison of the demo in several types with the engine's verdicts, at the sizes of its
 * front and at others, to which `www/charts/verdicts.ts` is held.
 *
 *     node tests/web/make-verdicts.mjs LAMINATE        # the command line, such as target/release/laminate
 */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'

const [laminate = ''] = process.argv.slice(2)
const options = [
  'compare',
  'demo',
  '--methods',
  'shortgpt,mka',
  '--remove',
  '2,4,6',
  '--dtype',
  'keep,q8_0,q4_k_m,q2_k',
  '--eval-samples',
  '12',
  '--json',
]
/** From a size that no model has to more than the original's. */
const SIZES = Array.from({ length: 20 }, (_, i) => 250_000 + 50_000 * i)
/** @param {string[]} more */
const report = (...more) => JSON.parse(execFileSync(laminate, [...options, ...more], { maxBuffer: 1 << 28 }).toString())
const whole = report()
const at = report('--sizes', SIZES.map(size => `${size / 1000}KB`).join(','))
writeFileSync(
  new URL('verdicts.json', import.meta.url),
  `${JSON.stringify({ report: whole, at: at.verdicts }, null, 0)}\n`,
)

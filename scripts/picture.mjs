// @ts-check
/**
 * `npm run picture`: makes the result that the page opens with (`www/open/demo-similarity.json`) and that the walk shows
 * (`www/walk/demo-result.json`) from the engine itself:
 * `laminate similarity demo --json` on the CPU, so that any machine can repeat it. `tests/engine/picture.rs` sees that it is
 * still what the engine gives.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { run } from './command.mjs'
import { nativeTarget, root } from './paths.mjs'
import { cargoEnv, prepareRust } from './rust.mjs'
import { script } from './steps.mjs'

/** Six digits are more than a picture shows, and a quarter of the file. @param {unknown} report */
export function shortened(report) {
  return JSON.stringify(report, (_, value) =>
    typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value,
  )
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await script(async () => {
    await prepareRust()
    const command = [
      'run',
      '--release',
      '--quiet',
      '--bin',
      'laminate',
      '--',
      'similarity',
      'demo',
      '--json',
      '--device',
      'cpu',
    ]
    const output = await run('cargo', command, { env: cargoEnv(nativeTarget), quiet: true })
    const json = output.split('\n').find(line => line.startsWith('{')) ?? ''
    const report = JSON.parse(json)
    const { layers, similarity } = report
    // The first screen needs no more of it.
    writeFileSync(join(root, 'www/open/demo-similarity.json'), `${shortened({ layers, similarity })}\n`)
    writeFileSync(join(root, 'www/walk/demo-result.json'), `${shortened(report)}\n`)
    console.log(`www/walk/demo-result.json: ${layers} layers of ${report.model.name}, ${report.points.count} points`)
  })
}

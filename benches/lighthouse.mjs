// Lighthouse on the built page, as a telephone and as a computer see it: `npm run bench -- lighthouse`. It fails where
// a score is under 95. Lighthouse is large and used here alone, so it is no dependency: npm fetches it into the cache.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { browserFlags, findBrowser } from '../scripts/browser.mjs'
import { run } from '../scripts/command.mjs'
import { npm } from '../scripts/packages.mjs'
import { buildPage } from '../scripts/page.mjs'
import { cache, dist } from '../scripts/paths.mjs'
import { serve } from '../scripts/serve.mjs'

const VERSION = '13.5.0'
const LEAST = 95
const CATEGORIES = ['performance', 'accessibility', 'best-practices']

/** Fetches Lighthouse where it is not there yet, and says where its program is. */
async function lighthouse() {
  const folder = join(cache, `lighthouse-${VERSION}`)
  const program = join(folder, 'node_modules', 'lighthouse', 'cli', 'index.js')
  if (!existsSync(program)) {
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'package.json'), '{"private":true}')
    await npm(['install', '--prefix', folder, '--no-audit', '--no-fund', `lighthouse@${VERSION}`])
  }
  return program
}

const browser = findBrowser()
if (!browser) throw new Error('Lighthouse needs a Chromium; CHROMIUM names one.')
await buildPage()
const program = await lighthouse()
const { address, close } = await serve(dist, 0)
const folder = mkdtempSync(join(tmpdir(), 'laminate-lighthouse-'))
let least = 100
try {
  for (const [name, preset] of [
    ['a telephone', []],
    ['a computer', ['--preset=desktop']],
  ]) {
    const report = join(folder, 'report.json')
    const flags = [
      `--chrome-flags=${browserFlags().join(' ')}`,
      `--only-categories=${CATEGORIES.join(',')}`,
      '--output=json',
      `--output-path=${report}`,
      '--quiet',
    ]
    await run(process.execPath, [program, address, ...flags, ...preset], { env: { CHROME_PATH: browser }, quiet: true })
    const { categories, audits } = JSON.parse(readFileSync(report, 'utf8'))
    const scores = CATEGORIES.map(id => Math.round(100 * categories[id].score))
    least = Math.min(least, ...scores)
    const times = ['first-contentful-paint', 'largest-contentful-paint', 'total-blocking-time'].map(
      id => `${audits[id].title} ${audits[id].displayValue}`,
    )
    console.log(`On ${name}: ${CATEGORIES.map((id, i) => `${id} ${scores[i]}`).join(', ')}. ${times.join(', ')}.`)
    const lost = Object.values(audits).filter(
      ({ score, scoreDisplayMode }) =>
        score !== null && score < 0.9 && ['binary', 'numeric'].includes(scoreDisplayMode),
    )
    for (const { id, title, displayValue } of lost) console.log(`  ${id}: ${title} ${displayValue ?? ''}`)
  }
} finally {
  close()
  rmSync(folder, { recursive: true, force: true })
}
if (least < LEAST) throw new Error(`The lowest score is ${least}; ${LEAST} is asked for.`)

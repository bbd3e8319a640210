// Benchmark: methods side by side on a model of this computer, by the page itself in a real Chromium on the CPU. Opened
// from disk, layers compared on 24 sequences, and every method, or those named by their titles on the page, with each
// number of layers removed, judged on 8 sequences of the built-in evaluation text. Prints the seconds of each stage and
// the table, and writes the picture of the page's similarities to PICTURE.
//
// usage: npm run bench -- methods.browser MODEL.gguf [--remove 2,4] [--tokens 32] [--methods "MKA;ShortGPT"] [--picture PICTURE.png]
import { parseArgs } from 'node:util'
import { openPage, stagesOf } from './engine/page.mjs'

const NAME = 'methods in the browser'
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    remove: { type: 'string', default: '2,4' },
    tokens: { type: 'string', default: '32' },
    methods: { type: 'string' },
    picture: { type: 'string' },
  },
})
const [path] = positionals
if (!path?.endsWith('.gguf')) {
  console.log(`${NAME}: give a .gguf file`)
  process.exit(0)
}
const opened = await openPage(NAME)
if (!opened) process.exit(0)
const { page, close } = opened
try {
  const { said, timed, open, compareLayers } = await stagesOf(opened, NAME, 6 * 3_600_000)
  await open(path)
  await compareLayers(24, values.tokens)
  if (values.picture) await page.locator('#see').screenshot({ path: values.picture })
  const panel = page.locator('#compare')
  if (values.methods) {
    await panel.getByRole('button', { name: 'None', exact: true }).click()
    for (const title of values.methods.split(';'))
      await panel.getByRole('checkbox', { name: title.trim(), exact: true }).check()
  } else await panel.getByRole('button', { name: 'All', exact: true }).click()
  await panel.getByLabel('Pieces of text').fill('8')
  await panel.getByLabel('Length of a piece').fill(values.tokens)
  await panel.getByLabel('Numbers of layers').fill(values.remove)
  await timed(
    'methods',
    () => panel.getByRole('button', { name: /^Compare the methods/ }).click(),
    () => panel.getByRole('button', { name: 'Compare the methods again' }),
  )
  for (const row of await page.getByTestId('comparison').locator('tr').all())
    said((await row.locator('th, td').allInnerTexts()).join(' | '))
  said(await page.getByTestId('footing').innerText())
} finally {
  await close()
}
process.exit(0)

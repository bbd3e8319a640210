// Benchmark: the page itself, in a real Chromium on the CPU, on a model of Llama-3-8B's shapes that `cargo bench --bench
// scale` has written: opened from disk, compared, one merge, written into the browser's private storage and handed to
// the downloads. Seconds of each, and the most that the engine's memory came to.
//
// usage: npm run bench -- scale.browser MODEL.gguf
import { statSync } from 'node:fs'
import { openPage, stagesOf } from './engine/page.mjs'

const path = process.argv.slice(2).find(argument => !argument.startsWith('--'))
if (!path?.endsWith('.gguf')) {
  console.log('scale in the browser: give a .gguf file')
  process.exit(0)
}
const opened = await openPage('scale in the browser')
if (!opened) process.exit(0)
const { page, close } = opened
try {
  const { said, timed, open, compareLayers } = await stagesOf(opened, 'scale in the browser', 3_600_000)
  await open(path)
  await compareLayers(8, 16)
  await page.getByRole('radio', { name: 'MKA, as published' }).check()
  await page.getByTestId('remove').fill('1')
  await timed(
    'one merge, measured',
    () => page.getByRole('button', { name: /^Compress/ }).click(),
    () => page.getByTestId('verdict'),
  )
  await page.getByLabel('Format').selectOption('gguf')
  await page.getByLabel('Largest file').selectOption('10000000000')
  const downloading = page.waitForEvent('download')
  await timed(
    'write and check',
    () => page.getByRole('button', { name: 'Download the file' }).click(),
    () => page.getByTestId('saved'),
  )
  const start = performance.now()
  const download = await downloading
  const { size } = statSync(await download.path())
  said(`${(size / 1e9).toFixed(2)} GB handed to the downloads ${((performance.now() - start) / 1e3).toFixed(1)} s`)
  for (const most of await page.getByText(/ at most\.$/).allInnerTexts()) said(most)
} finally {
  await close()
}
process.exit(0)

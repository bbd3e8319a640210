// Benchmark: the page itself, in a real Chromium on the CPU, on a model of Llama-3-8B's shapes that `cargo bench --bench
// scale` has written: opened from disk, compared, one merge, written into the browser's private storage and handed to
// the downloads. Seconds of each, and the most that the engine's memory came to.
//
// usage: npm run bench -- scale.browser MODEL.gguf
import { statSync } from 'node:fs'
import { openPage } from './engine/page.mjs'

const path = process.argv.slice(2).find(argument => !argument.startsWith('--'))
if (!path?.endsWith('.gguf')) {
  console.log('scale in the browser: give a .gguf file')
  process.exit(0)
}
const opened = await openPage('scale in the browser')
if (!opened) process.exit(0)
const { page, address, close } = opened
const HOUR = 3_600_000
try {
  page.setDefaultTimeout(HOUR)
  page.on('pageerror', error => console.log(`scale in the browser: ${error.message}`))
  const timed = async (name, act, seen) => {
    const start = performance.now()
    await act()
    const failed = page.getByRole('alert')
    await Promise.race([seen().waitFor(), failed.waitFor().then(async () => { throw new Error(await failed.innerText()) })])
    console.log(`scale in the browser: ${name} ${((performance.now() - start) / 1e3).toFixed(1)} s`)
  }
  await page.goto(`${address}?device=cpu`)
  await page.getByText('Computes on the CPU').waitFor()
  await timed('open', () => page.getByTestId('files').setInputFiles(path), () => page.getByRole('button', { name: 'Compare the layers' }))
  await page.getByLabel('Sequences').fill('8')
  await page.getByLabel('Tokens in each').fill('16')
  await page.getByLabel('Points').selectOption('tokens:4')
  await page.getByLabel('Tokens in each').press('Tab')
  await page.getByTestId('estimate').getByText('in 8 sequences').waitFor()
  console.log(`scale in the browser: ${(await page.getByTestId('estimate').innerText()).replaceAll('\n', ' ')}`)
  await timed('similarity', () => page.getByRole('button', { name: 'Compare the layers' }).click(), () => page.getByRole('button', { name: 'Compare the layers again' }))
  await page.getByRole('radio', { name: 'MKA, as published' }).check()
  await page.getByTestId('remove').fill('1')
  await timed('one merge, measured', () => page.getByRole('button', { name: /^Compress/ }).click(), () => page.getByTestId('verdict'))
  await page.getByLabel('Format').selectOption('gguf')
  await page.getByLabel('Largest file').selectOption('10000000000')
  const downloading = page.waitForEvent('download')
  await timed('write and check', () => page.getByRole('button', { name: 'Download the file' }).click(), () => page.getByTestId('saved'))
  const start = performance.now()
  const download = await downloading
  const { size } = statSync(await download.path())
  console.log(`scale in the browser: ${(size / 1e9).toFixed(2)} GB handed to the downloads ${((performance.now() - start) / 1e3).toFixed(1)} s`)
  for (const said of await page.getByText(/ at most\.$/).allInnerTexts()) console.log(`scale in the browser: ${said}`)
} finally {
  await close()
}
process.exit(0)

// Benchmark: the layers of a model compared in the page, in a real Chromium on the CPU, on one core and on all that the page
// uses, in turn. Seconds of each, and how many times as fast all cores are: the least of ROUNDS rounds, 3 if not given.
//
// usage: npm run bench -- threads.browser MODEL.gguf [SEQUENCES [TOKENS]]
import { openPage, stagesOf } from './engine/page.mjs'

const NAME = 'cores in the browser'
const ROUNDS = Number(process.env.ROUNDS ?? 3)
const [path, sequences = '16', tokens = '256'] = process.argv.slice(2).filter(argument => !argument.startsWith('--'))
if (!path?.endsWith('.gguf')) {
  console.log(`${NAME}: give a .gguf file`)
  process.exit(0)
}
const seconds = { one: [], all: [] }
for (let round = 0; round < ROUNDS; round++) {
  for (const which of ['one', 'all']) {
    const opened = await openPage(NAME, 'production', { alone: which === 'one' })
    if (!opened) process.exit(0)
    try {
      const { said, timed, open } = await stagesOf(opened, `${NAME}, ${which}`, 3_600_000)
      said(await opened.page.getByTestId('device').innerText())
      await open(path)
      const { page } = opened
      await page.getByLabel('Sequences').fill(sequences)
      await page.getByLabel('Tokens in each').fill(tokens)
      await page.getByLabel('Sequences').focus()
      seconds[which].push(
        await timed(
          'similarity',
          () => page.getByRole('button', { name: /^Compare the layers/ }).click(),
          () => page.getByRole('button', { name: 'Compare the layers again' }),
        ),
      )
    } finally {
      await opened.close()
    }
  }
}
const [one, all] = [Math.min(...seconds.one), Math.min(...seconds.all)]
console.log(`${NAME}: one ${one.toFixed(1)} s, all ${all.toFixed(1)} s, ${(one / all).toFixed(2)} times as fast`)
process.exit(0)

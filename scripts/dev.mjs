// @ts-check
/** `npm run dev`: the same with Vite's development server, which shows changes of the page at once. */
import { buildSteps } from './buildsteps.mjs'
import { vite } from './page.mjs'
import { runSteps, script } from './steps.mjs'

await script(async () => {
  await runSteps(buildSteps.slice(0, -1))
  await vite(['--host', 'localhost', '--port', process.env.PORT || '4173', ...process.argv.slice(2)])
})

// @ts-check
/** `npm start`: installs, builds, serves. */
import { buildSteps } from './buildsteps.mjs'
import { dist } from './paths.mjs'
import { serve } from './serve.mjs'
import { runSteps, script } from './steps.mjs'

await script(async () => {
  const port = Number(process.env.PORT || 4173)
  if (!Number.isInteger(port) || port < 0 || port > 65535)
    throw new Error(`PORT is ${process.env.PORT}, which is no port number.`)
  await runSteps(buildSteps)
  const { address } = await serve(dist, port)
  console.log(`\nLaminate is at ${address}  (Ctrl+C stops it)`)
})

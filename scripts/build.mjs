// @ts-check
/** `npm run build`: installs what is needed, builds the engine and the page into `dist`. */
import { buildSteps } from './buildsteps.mjs'
import { runSteps, script } from './steps.mjs'

await script(() => runSteps(buildSteps))

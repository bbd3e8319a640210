// @ts-check
/** Named steps: which of how many, how long each took, and one clear end. */
import { CommandFailed } from './command.mjs'

const started = performance.now()

/** @param {number} since */
export const secondsSince = since => ((performance.now() - since) / 1000).toFixed(1)

/** @typedef {{ name: string, run: () => unknown }} Step */

/**
 * Runs the steps in order and stops at the first that fails. A step may return a few words on what it
 * found ("nothing changed"), which are shown with its time. @param {Step[]} steps
 */
export async function runSteps(steps) {
  for (const [index, { name, run }] of steps.entries()) {
    const since = performance.now()
    console.log(`[${index + 1}/${steps.length}] ${name}`)
    const remark = await run()
    console.log(
      `      ${typeof remark === 'string' ? `${remark}, ` : ''}${secondsSince(since)} s (${secondsSince(started)} s in all)`,
    )
  }
}

/** Runs a script's main function; a failure ends in its command and reason, without a stack trace. @param {() => Promise<unknown>} main */
export async function script(main) {
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM'])) process.once(signal, () => process.exit(130))
  try {
    await main()
  } catch (error) {
    console.error(`\nFailed: ${describe(error)}`)
    process.exit(1)
  }
}

/** @param {unknown} error */
export function describe(error) {
  if (error instanceof CommandFailed) return error.message
  if (error instanceof Error) return error.name === 'Error' ? error.message : (error.stack ?? error.message)
  return String(error)
}

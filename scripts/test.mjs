// @ts-check
/**
 * `npm test`: installs what is needed and runs every test. A step that fails does not keep the others from
 * running, except those that need it. `npm test -- fmt unit` runs only these steps and what they need.
 * `npm run check` names the quick ones.
 */
import { describe, script, secondsSince } from './steps.mjs'
import { CommandFailed } from './command.mjs'
import { closingLine, counts, sum } from './counts.mjs'
import { fail, skip } from './runners.mjs'
import { chosen } from './teststeps.mjs'

/** @typedef {import('./runners.mjs').Outcome} Outcome */
/** @typedef {import('./teststeps.mjs').TestStep} TestStep */

/**
 * Starts the steps that mostly wait for a network; they go on beside the steps before them. A failure is told when the
 * step's turn comes. @param {TestStep[]} steps @returns {Map<string, Promise<unknown>>}
 */
function startAhead(steps) {
  return new Map(
    steps
      .filter(step => step.ahead)
      .map(({ key, run }) => {
        const running = Promise.resolve().then(run)
        running.catch(() => {})
        return [key, running]
      }),
  )
}

/** @param {TestStep} step @param {Map<string, Outcome>} done @param {Map<string, Promise<unknown>>} begun @returns {Promise<Outcome>} */
async function outcomeOf({ key, needs = [], run }, done, begun) {
  const broken = needs.find(need => done.get(need)?.failure || done.get(need)?.blocked)
  if (broken) return { ...skip(`it needs "${broken}", which failed`), blocked: true }
  try {
    const result = await (begun.get(key) ?? run())
    if (typeof result === 'object' && result !== null) return /** @type {Outcome} */ (result)
    if (typeof result === 'string') console.log(`      ${result}`)
    return { counts: counts() }
  } catch (error) {
    return fail(error instanceof CommandFailed ? `${error.message}\n${error.tail}` : describe(error))
  }
}

/** @param {Outcome} outcome */
function inWords({ counts: { passed, failed, skipped }, skipped: reason, failure }) {
  if (reason) return `SKIPPED: ${reason}`
  if (passed + failed + skipped === 0) return 'ready'
  return failure
    ? `FAILED (${passed} passed, ${failed} failed)`
    : `ok, ${passed} passed${skipped > 0 ? `, ${skipped} skipped` : ''}`
}

await script(async () => {
  const steps = chosen(process.argv.slice(2))
  /** @type {Map<string, Outcome>} */
  const done = new Map()
  const lines = []
  const begun = startAhead(steps)
  for (const [index, step] of steps.entries()) {
    console.log(`\n[${index + 1}/${steps.length}] ${step.name}`)
    const since = performance.now()
    const outcome = await outcomeOf(step, done, begun)
    done.set(step.key, outcome)
    lines.push(`${step.name.padEnd(40)} ${secondsSince(since).padStart(7)} s   ${inWords(outcome)}`)
    console.log(`      ${inWords(outcome)}, ${secondsSince(since)} s`)
  }
  for (const { key, name } of steps) {
    const failure = done.get(key)?.failure
    if (failure) console.log(`\n--- ${name} (again alone: npm test -- ${key})\n${failure}`)
  }
  const total = sum([...done.values()].map(outcome => outcome.counts))
  console.log(`\n${lines.join('\n')}\n${'in all'.padEnd(40)} ${secondsSince(0).padStart(7)} s\n\n${closingLine(total)}`)
  process.exitCode = total.failed > 0 ? 1 : 0
})

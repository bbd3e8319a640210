// @ts-check
/**
 * `npm test`: installs what is needed and runs every test. A step that fails does not keep the others from
 * running, except those that need it. `npm test -- fmt unit` runs only these steps and what they need.
 */
import { describe, script, secondsSince } from './steps.mjs'
import { CommandFailed } from './command.mjs'
import { closingLine, counts, sum } from './counts.mjs'
import { fail, skip } from './runners.mjs'
import { testSteps } from './teststeps.mjs'

/** @typedef {import('./runners.mjs').Outcome} Outcome */
/** @typedef {import('./teststeps.mjs').TestStep} TestStep */

/** The steps with these keys and all that they need, in the given order. @param {string[]} keys */
function chosen(keys) {
  const unknown = keys.filter(key => !testSteps.some(step => step.key === key))
  if (unknown.length > 0) throw new Error(`There is no step ${unknown.join(', ')}. The steps: ${testSteps.map(step => step.key).join(', ')}`)
  const wanted = new Set(keys.length > 0 ? keys : testSteps.map(step => step.key))
  for (const step of testSteps.toReversed()) if (wanted.has(step.key)) step.needs?.forEach(need => wanted.add(need))
  return testSteps.filter(step => wanted.has(step.key))
}

/** @param {TestStep} step @param {Map<string, Outcome>} done @returns {Promise<Outcome>} */
async function outcomeOf({ needs = [], run }, done) {
  const broken = needs.find(need => done.get(need)?.failure || done.get(need)?.blocked)
  if (broken) return { ...skip(`it needs "${broken}", which failed`), blocked: true }
  try {
    const result = await run()
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
  return failure ? `FAILED (${passed} passed, ${failed} failed)` : `ok, ${passed} passed${skipped > 0 ? `, ${skipped} skipped` : ''}`
}

await script(async () => {
  const steps = chosen(process.argv.slice(2))
  /** @type {Map<string, Outcome>} */
  const done = new Map()
  const lines = []
  for (const [index, step] of steps.entries()) {
    console.log(`\n[${index + 1}/${steps.length}] ${step.name}`)
    const since = performance.now()
    const outcome = await outcomeOf(step, done)
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

// @ts-check
/** Counts of tests from what their runners print. Pure: text in, numbers out. */

/** @typedef {{ passed: number, failed: number, skipped: number }} Counts */

/** @param {number} [passed] @param {number} [failed] @param {number} [skipped] @returns {Counts} */
export const counts = (passed = 0, failed = 0, skipped = 0) => ({ passed, failed, skipped })

/** @param {Counts[]} all */
export const sum = all =>
  all.reduce((a, b) => counts(a.passed + b.passed, a.failed + b.failed, a.skipped + b.skipped), counts())

const number = (/** @type {string | undefined} */ text) => Number(text ?? 0)

/** Terminal colours get in the way of reading. @param {string} output */
const plain = output => output.replaceAll(/\u001b\[[0-9;]*m/g, '')

/** `cargo test` and wasm-bindgen-test: a line for each test program. @param {string} output */
export function cargoCounts(output) {
  const lines = plain(output).matchAll(/^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/gm)
  return sum([...lines].map(line => counts(number(line[1]), number(line[2]), number(line[3]))))
}

/** `cargo nextest`: one summary line. @param {string} output */
export function nextestCounts(output) {
  const line = /^\s*Summary \[.*?\]\s+.*? tests? run: (.*)$/m.exec(plain(output))?.[1] ?? ''
  const count = (/** @type {string} */ word) => number(new RegExp(`(\\d+) ${word}`).exec(line)?.[1])
  return counts(count('passed'), count('failed') + count('timed out'), count('skipped'))
}

/** Vitest's JSON report. A file that could not even be loaded counts as a failure. @param {string} report */
export function vitestCounts(report) {
  const {
    numPassedTests = 0,
    numFailedTests = 0,
    numPendingTests = 0,
    numTodoTests = 0,
    testResults = [],
  } = JSON.parse(report)
  const broken = testResults.filter(
    (/** @type {any} */ file) =>
      file.status === 'failed' && !file.assertionResults.some((/** @type {any} */ test) => test.status === 'failed'),
  )
  return counts(numPassedTests, numFailedTests + broken.length, numPendingTests + numTodoTests)
}

/** Python's unittest: "Ran 5 tests", then "OK (skipped=1)" or "FAILED (failures=1, errors=1)". @param {string} output */
export function unittestCounts(output) {
  const ran = number(/^Ran (\d+) tests?/m.exec(output)?.[1])
  const verdict = /^(?:OK|FAILED)(?: \((.*)\))?$/m.exec(output)?.[1] ?? ''
  const count = (/** @type {string} */ word) => number(new RegExp(`\\b${word}=(\\d+)`).exec(verdict)?.[1])
  const [failed, skipped] = [count('failures') + count('errors') + count('unexpected successes'), count('skipped')]
  return counts(ran - failed - skipped, failed, skipped)
}

/** Node's own test runner, as TAP: "# pass 5". @param {string} output */
export function nodeTestCounts(output) {
  const count = (/** @type {string} */ word) => number(new RegExp(`^# ${word} (\\d+)`, 'm').exec(output)?.[1])
  return counts(count('pass'), count('fail') + count('cancelled'), count('skipped') + count('todo'))
}

/** A runner that ended badly without having counted a failure has failed all the same. @param {Counts} found @param {number} code */
export const withExitCode = (found, code) => (code !== 0 && found.failed === 0 ? { ...found, failed: 1 } : found)

/** The line that a run of all tests ends with. @param {Counts} total */
export const closingLine = ({ passed, failed, skipped }) => `${passed} passed, ${failed} failed, ${skipped} skipped`

// @ts-check
/** Each test runner, started and counted. All give `Outcome`s; only what cannot be started throws. */
import { mkdtempSync, readFileSync, rmSync, existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { attempt, asTyped, lastLines } from './command.mjs'
import { counts, nodeTestCounts, unittestCounts, vitestCounts, withExitCode } from './counts.mjs'
import { nodeProgram, root } from './paths.mjs'

/**
 * What came of a step: `counts`, and in words why something failed (`failure`) or was left out (`skipped`,
 * and `blocked` where that is because another step failed).
 * @typedef {{ counts: import('./counts.mjs').Counts, failure?: string, skipped?: string, blocked?: boolean }} Outcome
 * @typedef {import('./command.mjs').Options} Options
 */

/** @param {string} reason @returns {Outcome} */
export const skip = reason => ({ counts: counts(0, 0, 1), skipped: reason })

/** @type {Outcome} */
export const pass = { counts: counts(1) }

/** @param {string} reason @returns {Outcome} */
export const fail = reason => ({ counts: counts(0, 1, 0), failure: reason })

/** Runs a program and counts its tests in what it prints. @param {string} program @param {string[]} args @param {(output: string) => import('./counts.mjs').Counts} count @param {Options} [options] @returns {Promise<Outcome>} */
export async function tests(program, args, count, options) {
  const { code, output } = await attempt(program, args, options)
  const found = withExitCode(count(output), code)
  return found.failed === 0
    ? { counts: found }
    : { counts: found, failure: `${asTyped(program, args)}\n${lastLines(output)}` }
}

/** A program that is one test: it passes or fails as a whole. @param {string} program @param {string[]} args @param {Options} [options] */
export const check = (program, args, options) => tests(program, args, () => counts(1), options).then(onlyOne)

/** @param {Outcome} outcome @returns {Outcome} */
const onlyOne = outcome => (outcome.failure ? fail(outcome.failure) : outcome)

/** The same for a program of an npm package. @param {string} path @param {string[]} args @param {Options} [options] */
export const nodeCheck = (path, args, options) => check(process.execPath, [nodeProgram(path), ...args], options)

/** Vitest with a settings file of its own, counted from its report. @param {string[]} args @param {Options} [options] @returns {Promise<Outcome>} */
export async function vitest(args, options) {
  const folder = mkdtempSync(join(tmpdir(), 'laminate-test-'))
  const report = join(folder, 'report.json')
  try {
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`]
    const count = () => (existsSync(report) ? vitestCounts(readFileSync(report, 'utf8')) : counts(0, 1))
    return await tests(
      process.execPath,
      [nodeProgram('vitest/vitest.mjs'), 'run', ...reporters, ...args],
      count,
      options,
    )
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Node's own test runner on one file. @param {string} file @param {Options} [options] */
export const nodeTest = (file, options) =>
  tests(process.execPath, ['--test', '--test-reporter=tap', join(root, file)], nodeTestCounts, options)

/** Python's unittest over a folder of `test_*.py`. @param {string} python @param {string} folder @param {Options} [options] */
export const unittest = (python, folder, options) =>
  tests(
    python,
    ['-m', 'unittest', 'discover', '-v', '-s', join(root, folder), '-p', 'test_*.py'],
    unittestCounts,
    options,
  )

// @ts-check
/** Runs programs, shows what they print as it comes, and keeps the end of it for the case that they fail. */
import { spawn, spawnSync } from 'node:child_process'
import { root } from './paths.mjs'

const KEPT_LINES = 40

/** @typedef {{ env?: Record<string, string | undefined>, quiet?: boolean, cwd?: string }} Options */
/** @typedef {{ code: number, output: string }} Outcome */

/** The output passes through us, so that programs cannot see whether a terminal shows it. */
const colours = process.stdout.isTTY ? { FORCE_COLOR: '1' } : { NO_COLOR: '1' }

/** A program that could not be started or ended badly; `tail` is the end of what it printed. */
export class CommandFailed extends Error {
  /** @param {string} command @param {string} reason @param {string} tail */
  constructor(command, reason, tail) {
    super(`${command}\n${reason}`)
    this.tail = tail
  }
}

/** The command as one would type it. @param {string} program @param {string[]} args */
export function asTyped(program, args) {
  return [program, ...args]
    .map(word => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`))
    .join(' ')
}

/** The last lines of a program's output, as a terminal would have left them. @param {string} output */
export function lastLines(output, count = KEPT_LINES) {
  const lines = output.split('\n').map(line => line.slice(line.lastIndexOf('\r', line.length - 2) + 1).trimEnd())
  return lines
    .filter(line => line !== '')
    .slice(-count)
    .join('\n')
}

/**
 * Runs a program to its end and gives its exit code and all it printed. Standard input is closed: nothing
 * may wait for an answer. @param {string} program @param {string[]} args @param {Options} [options]
 * @returns {Promise<Outcome>}
 */
export function attempt(program, args, { env = {}, quiet = false, cwd = root } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd,
      env: { ...process.env, ...colours, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const stopChild = () => child.kill()
    process.once('exit', stopChild)
    let output = ''
    for (const [from, to] of /** @type {const} */ ([
      [child.stdout, process.stdout],
      [child.stderr, process.stderr],
    ])) {
      from.setEncoding('utf8')
      from.on('data', text => {
        output += text
        if (!quiet) to.write(text)
      })
    }
    child.once('error', error => {
      const missing = 'code' in error && error.code === 'ENOENT'
      reject(new CommandFailed(asTyped(program, args), missing ? `${program} is not installed.` : error.message, ''))
    })
    child.once('close', (code, signal) => {
      process.off('exit', stopChild)
      if (signal) output += `\n(ended by ${signal})`
      resolve({ code: code ?? 1, output })
    })
  })
}

/** Runs a program that has to succeed. @param {string} program @param {string[]} args @param {Options} [options] */
export async function run(program, args, options) {
  const { code, output } = await attempt(program, args, options)
  if (code !== 0) throw new CommandFailed(asTyped(program, args), `ended with exit code ${code}.`, lastLines(output))
  return output
}

/** What a program prints, or null where it is missing or fails: for questions. @param {string} program @param {string[]} args */
export function ask(program, args) {
  const { status, stdout } = spawnSync(program, args, {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  return status === 0 ? stdout.trim() : null
}

import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** No start pages, no questions, no requests of its own; a free port for the driver, written into the profile. */
const PREFERENCES = {
  'marionette.port': 0,
  'browser.shell.checkDefaultBrowser': false,
  'browser.startup.homepage_override.mstone': 'ignore',
  'datareporting.policy.dataSubmissionEnabled': false,
  'app.update.disabledForTesting': true,
  'toolkit.telemetry.enabled': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
  'browser.aboutwelcome.enabled': false,
  'extensions.systemAddon.update.enabled': false,
  'services.settings.server': 'data:,',
  'browser.download.folderList': 2,
}

/** A Firefox as it is released, which Playwright cannot drive, by its own remote protocol, Marionette: commands and answers are JSON with their length before them. */
export class Firefox {
  private lastId = 0
  private received = Buffer.alloc(0)
  private readonly waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>()
  private constructor(
    private readonly socket: Socket,
    private readonly end: () => void,
  ) {
    socket.on('data', (piece: Buffer) => this.receive(piece))
    socket.on('error', error => this.fail(error))
    socket.on('close', () => this.fail(new Error('Firefox has gone')))
  }

  static async start(program: string, preferences: Record<string, string | number | boolean> = {}): Promise<Firefox> {
    const profile = mkdtempSync(join(tmpdir(), 'laminate-firefox-'))
    const lines = Object.entries({ ...PREFERENCES, ...preferences }).map(
      ([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});`,
    )
    writeFileSync(join(profile, 'user.js'), lines.join('\n'))
    const child = spawn(program, ['--headless', '--no-remote', '--marionette', '--profile', profile], {
      stdio: 'ignore',
    })
    const end = () => {
      child.kill('SIGKILL')
      rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 })
    }
    try {
      const port = await eventually(
        60_000,
        () => Number(readFileSync(join(profile, 'MarionetteActivePort'), 'utf8')) || undefined,
      )
      const socket = await eventually(30_000, () => opened(port))
      const firefox = new Firefox(socket, end)
      await firefox.ask('WebDriver:NewSession', { capabilities: { alwaysMatch: { acceptInsecureCerts: true } } })
      await firefox.ask('WebDriver:SetTimeouts', { script: 300_000, pageLoad: 60_000 })
      return firefox
    } catch (error) {
      end()
      throw error
    }
  }

  /** A visit. (The protocol's own "refresh" goes past service workers.) */
  async goto(url: string): Promise<void> {
    await this.ask('WebDriver:Navigate', { url })
  }

  /** Runs a function in the page; it and what it is given must stand for themselves. */
  async evaluate<T, A extends unknown[]>(work: (...args: A) => T | Promise<T>, ...args: A): Promise<T> {
    const script = `const done = arguments[arguments.length - 1]; Promise.resolve((${work})(...arguments[0])).then(value => done({ value }), error => done({ error: String(error) }))`
    const { value } = (await this.ask('WebDriver:ExecuteAsyncScript', { script, args: [args] })) as {
      value: { value?: T; error?: string }
    }
    if (value.error !== undefined) throw new Error(value.error)
    return value.value as T
  }

  /** Presses a button as a person does: the browser sees to it that it can be. */
  async click(selector: string): Promise<void> {
    const { value } = (await this.ask('WebDriver:FindElement', { using: 'xpath', value: selector })) as {
      value: Record<string, string>
    }
    await this.ask('WebDriver:ElementClick', { id: Object.values(value)[0] })
  }

  /** The visible text of the page, once it fits. */
  async until(pattern: RegExp, timeout = 60_000): Promise<string> {
    let text = ''
    try {
      return await eventually(timeout, async () => {
        text = await this.evaluate(() => document.body.innerText)
        return pattern.test(text) ? text : undefined
      })
    } catch {
      throw new Error(`${pattern} is not in: ${text.slice(0, 2000)}`)
    }
  }

  async close(): Promise<void> {
    this.socket.removeAllListeners('close')
    this.socket.destroy()
    this.end()
  }

  private ask(command: string, parameters: object): Promise<unknown> {
    const id = ++this.lastId
    const message = JSON.stringify([0, id, command, parameters])
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject })
      this.socket.write(`${Buffer.byteLength(message)}:${message}`)
    })
  }

  private receive(piece: Buffer): void {
    this.received = Buffer.concat([this.received, piece])
    for (;;) {
      const colon = this.received.indexOf(58)
      const length = Number(this.received.subarray(0, Math.max(0, colon)).toString())
      if (colon < 0 || this.received.length < colon + 1 + length) return
      const message = JSON.parse(this.received.subarray(colon + 1, colon + 1 + length).toString())
      this.received = this.received.subarray(colon + 1 + length)
      // The first message is a greeting.
      if (!Array.isArray(message)) continue
      const [, id, error, result] = message
      const waiting = this.waiting.get(id)
      this.waiting.delete(id)
      if (error) waiting?.reject(new Error(`Firefox: ${error.error}: ${error.message}`))
      else waiting?.resolve(result)
    }
  }

  private fail(error: Error): void {
    for (const { reject } of this.waiting.values()) reject(error)
    this.waiting.clear()
  }
}

function opened(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => resolve(socket))
    socket.once('error', reject)
  })
}

/** Tries until there is something, four times a second. */
async function eventually<T>(timeout: number, attempt: () => T | undefined | Promise<T | undefined>): Promise<T> {
  for (const end = Date.now() + timeout; ;) {
    const value = await Promise.resolve()
      .then(attempt)
      .catch(() => undefined)
    if (value !== undefined) return value
    if (Date.now() > end) throw new Error('not in time')
    await new Promise(resolve => setTimeout(resolve, 250))
  }
}

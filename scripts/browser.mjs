// @ts-check
/** A Chromium and its driver for the tests, and a Firefox beside them: found, or installed where the system's package manager may be used. */
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { ask, attempt } from './command.mjs'

const browserNames = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome']
const browserPlaces = [
  '/usr/lib/chromium/chromium',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
  'C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe',
]
const driverPlaces = [
  '/usr/lib/chromium-browser/chromedriver',
  '/usr/lib/chromium/chromedriver',
  '/opt/homebrew/bin/chromedriver',
]

/** The first program of these names on PATH, else the first of these files. @param {string[]} names @param {string[]} places */
function find(names, places) {
  const folders = (process.env.PATH ?? '').split(delimiter).filter(Boolean)
  const onPath = names.flatMap(name => folders.flatMap(folder => [join(folder, name), join(folder, `${name}.exe`)]))
  return [...onPath, ...places].find(path => existsSync(path)) ?? null
}

/** `CHROMIUM` or `CHROME`, or a browser in the usual places, or null. */
export const findBrowser = () => process.env.CHROMIUM || process.env.CHROME || find(browserNames, browserPlaces)

/** `CHROMEDRIVER`, or a driver in the usual places, or null. */
export const findDriver = () => process.env.CHROMEDRIVER || find(['chromedriver'], driverPlaces)

/** `FIREFOX`, or one in the usual places, or null. A few tests run in it. */
export const findFirefox = () =>
  process.env.FIREFOX || find(['firefox-esr', 'firefox'], ['/Applications/Firefox.app/Contents/MacOS/firefox'])

/** How apt-get may be run without asking anybody, or null. @returns {string[] | null} */
function aptGet() {
  if (ask('apt-get', ['--version']) === null) return null
  if (process.getuid?.() === 0) return ['apt-get']
  return ask('sudo', ['-n', 'true']) === null ? null : ['sudo', '-n', 'apt-get']
}

/** Installs browser and driver by apt where they are missing; says in words how things stand. */
export async function prepareBrowser() {
  if (findBrowser() && findDriver() && findFirefox()) return `${findBrowser()}, ${findDriver()}, ${findFirefox()}`
  const apt = aptGet()
  if (apt) {
    const [program = '', ...first] = apt
    const env = { DEBIAN_FRONTEND: 'noninteractive' }
    await attempt(program, [...first, 'update'], { env, quiet: true })
    // Apart, because not every system has both under these names.
    for (const packages of [['chromium', 'chromium-driver'], ['firefox-esr']]) {
      await attempt(program, [...first, 'install', '-y', '--no-install-recommends', ...packages], { env, quiet: true })
    }
  }
  const [browser, driver, firefox] = [findBrowser(), findDriver(), findFirefox()]
  const tried = apt ? 'apt-get could not install it' : 'it can be installed only by hand here'
  return `${browser ?? `no Chromium (${tried}; CHROMIUM names one)`}, ${driver ?? `no chromedriver (${tried}; CHROMEDRIVER names one)`}, ${firefox ?? 'no Firefox (FIREFOX names one)'}`
}

/** The flags of every headless run: WebGPU also without a graphics card, and no sandbox where root cannot have one. */
export const browserFlags = () => [
  '--headless=new',
  '--enable-unsafe-webgpu',
  '--disable-dev-shm-usage',
  ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
]

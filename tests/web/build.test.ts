import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { namesOfArchitectures } from '../../www/open/architectures'
import { architectures } from '../../scripts/architectures.mjs'
import { asTyped, lastLines } from '../../scripts/command.mjs'
import {
  cargoCounts,
  closingLine,
  counts,
  nextestCounts,
  sum,
  unittestCounts,
  vitestCounts,
  withExitCode,
} from '../../scripts/counts.mjs'
import { filesUnder, fingerprint, isCurrent, markCurrent } from '../../scripts/fingerprint.mjs'
import { atLeast, lockedCrate, missingPackages } from '../../scripts/lockfile.mjs'
import { manifest } from '../../scripts/package.mjs'
import { cacheControl, fileFor, serve } from '../../scripts/serve.mjs'
import { chosen, testSteps } from '../../scripts/teststeps.mjs'

const crate = (name: string, version: string) =>
  `[[package]]\nname = "${name}"\nversion = "${version}"\nsource = "registry"\n\n`

describe('lock files', () => {
  test('a crate is found by its whole name', () => {
    const lock = `version = 4\n\n${crate('wasm-bindgen', '0.2.130')}${crate('wasm-bindgen-futures', '0.4.80')}`
    expect(lockedCrate(lock, 'wasm-bindgen')).toBe('0.2.130')
    expect(lockedCrate(lock.replaceAll('\n', '\r\n'), 'wasm-bindgen')).toBe('0.2.130')
  })

  test('a crate that is missing or there twice is an error that names it', () => {
    expect(() => lockedCrate(crate('serde', '1.0.0'), 'wasm-bindgen')).toThrow('does not name wasm-bindgen')
    expect(() => lockedCrate(crate('syn', '2.0.1') + crate('syn', '3.0.1'), 'syn')).toThrow('2.0.1 and 3.0.1')
  })

  test('missing, outdated and foreign npm packages are told apart', () => {
    const wanted = {
      packages: {
        '': { version: '1.0.0' },
        'node_modules/vite': { version: '8.0.0' },
        'node_modules/a/node_modules/b': { version: '1.0.0' },
        'node_modules/@x/darwin': { version: '1.0.0', optional: true },
        'node_modules/@x/linux': { version: '2.0.0', optional: true },
      },
    }
    const installed = {
      packages: {
        'node_modules/vite': { version: '8.0.0' },
        'node_modules/@x/linux': { version: '1.0.0', optional: true },
      },
    }
    expect(missingPackages(wanted, installed)).toEqual(['b', '@x/linux'])
    expect(missingPackages(wanted, wanted)).toEqual([])
  })

  test.each([
    ['1.95.0', '1.95', true],
    ['1.100.0', '1.95', true],
    ['1.94.1', '1.95', false],
    ['1.96.0-nightly', '1.95', true],
    ['2.0', '1.95.3', true],
  ])('version %s is at least %s: %s', (a, b, expected) => expect(atLeast(a, b)).toBe(expected))
})

describe('counts', () => {
  test('cargo test: every program counts, colours do not matter', () => {
    const output = [
      'running 3 tests',
      'test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s',
      'test result: \u001b[31mFAILED\u001b[0m. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s',
      'a line that says test result: ok. 9 passed; 9 failed; 9 ignored',
    ].join('\n')
    expect(cargoCounts(output)).toEqual(counts(7, 2, 1))
  })

  test('wasm-bindgen-test', () => {
    expect(cargoCounts('test result: ok. 5 passed; 0 failed; 2 ignored; 1 filtered out; finished in 0.40s')).toEqual(
      counts(5, 0, 2),
    )
  })

  test('cargo nextest', () => {
    const output =
      '------------\n     Summary [   3.407s] 12 tests run: 9 passed (1 slow), 2 failed, 1 timed out, 4 skipped\n'
    expect(nextestCounts(output)).toEqual(counts(9, 3, 4))
    expect(nextestCounts('     Summary [   0.007s] 1 test run: 1 passed, 0 skipped')).toEqual(counts(1, 0, 0))
  })

  test('vitest: a file that does not load is a failure', () => {
    const report = {
      numPassedTests: 5,
      numFailedTests: 1,
      numPendingTests: 2,
      numTodoTests: 1,
      testResults: [
        { status: 'passed', assertionResults: [{ status: 'passed' }] },
        { status: 'failed', assertionResults: [{ status: 'failed' }] },
        { status: 'failed', assertionResults: [] },
      ],
    }
    expect(vitestCounts(JSON.stringify(report))).toEqual(counts(5, 2, 3))
  })

  test('unittest', () => {
    expect(unittestCounts('Ran 5 tests in 0.1s\n\nOK\n')).toEqual(counts(5))
    expect(unittestCounts('Ran 5 tests in 0.1s\n\nOK (skipped=2)\n')).toEqual(counts(3, 0, 2))
    expect(unittestCounts('Ran 6 tests in 0.1s\n\nFAILED (failures=1, errors=2, skipped=1)\n')).toEqual(counts(2, 3, 1))
  })

  test('a runner that ends badly has failed, whatever it counted', () => {
    expect(withExitCode(counts(3), 101)).toEqual(counts(3, 1))
    expect(withExitCode(counts(3, 2), 101)).toEqual(counts(3, 2))
    expect(withExitCode(counts(3), 0)).toEqual(counts(3))
  })

  test('the closing line', () => {
    expect(closingLine(sum([counts(1, 2, 3), counts(10, 20, 30)]))).toBe('11 passed, 22 failed, 33 skipped')
  })
})

describe('steps', () => {
  const keys = (steps: typeof testSteps) => steps.map(({ key }) => key)

  test('a step stands after those that it needs, and one that starts at once needs none', () => {
    for (const [index, { key, needs = [], ahead }] of testSteps.entries()) {
      expect(keys(testSteps.slice(0, index)), key).toEqual(expect.arrayContaining(needs))
      if (ahead) expect(needs, key).toEqual([])
    }
    expect(new Set(keys(testSteps)).size).toBe(testSteps.length)
  })

  test('all of them leave out only what another one covers', () => {
    const all = keys(chosen([]))
    const left = testSteps.filter(({ key }) => !all.includes(key))
    expect(keys(left)).toEqual(['rust-unit'])
    for (const { key, coveredBy } of left) expect(all, key).toContain(coveredBy)
  })

  test('keys choose steps and what they need, in the order of the list', () => {
    expect(keys(chosen(['unit', 'fmt']))).toEqual(['packages', 'rust', 'linters', 'fmt', 'unit'])
    expect(keys(chosen(['rust-unit']))).toEqual(['rust', 'rust-unit'])
    expect(() => chosen(['fmt', 'units'])).toThrow('There is no step units.')
  })

  test('the scripts of package.json name steps that there are', () => {
    const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> }
    const named = Object.values(scripts).flatMap(
      script => /^node scripts\/test\.mjs (.*)/.exec(script)?.[1]!.split(' ') ?? [],
    )
    expect(named.length).toBeGreaterThan(6)
    expect(chosen(named).length).toBeGreaterThan(0)
  })
})

describe('commands', () => {
  test('are shown as one would type them', () => {
    expect(asTyped('cargo', ['test', '--', "it's", 'two words'])).toBe("cargo test -- 'it'\\''s' 'two words'")
  })

  test('of the output the end is kept, as a terminal leaves it', () => {
    expect(lastLines('one\n\n 1/3\r 2/3\r 3/3\nlast  \r\n', 2)).toBe(' 3/3\nlast')
  })
})

describe('in a folder', () => {
  let folder = ''
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'laminate-build-'))
    mkdirSync(join(folder, 'assets'))
    writeFileSync(
      join(folder, 'index.html'),
      '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">',
    )
    writeFileSync(join(folder, 'assets', 'engine-0123abcd.wasm'), '\0asm')
    writeFileSync(join(folder, '.hidden'), 'hidden')
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  test('a fingerprint tells content, names and facts, not times', () => {
    const print = (...facts: string[]) => fingerprint(folder, filesUnder([folder]), facts)
    const first = print('a')
    expect(print('a')).toBe(first)
    expect(print('b')).not.toBe(first)
    writeFileSync(join(folder, 'index.html'), 'other')
    const second = print('a')
    expect(second).not.toBe(first)
    writeFileSync(join(folder, 'moved.html'), 'other')
    rmSync(join(folder, 'index.html'))
    expect(print('a')).not.toBe(second)
  })

  test('files are namesOfArchitectures without dot files and exceptions', () => {
    expect(filesUnder([folder, join(folder, 'nowhere')], [join(folder, 'assets')])).toEqual([
      join(folder, 'index.html'),
    ])
  })

  test('an output is current until its mark changes', () => {
    expect(isCurrent(folder, 'x')).toBe(false)
    markCurrent(folder, 'x')
    expect(isCurrent(folder, 'x')).toBe(true)
    expect(isCurrent(folder, 'y')).toBe(false)
  })

  test('a path leads to a file of the folder or nowhere', () => {
    expect(fileFor(folder, '/')).toBe(join(folder, 'index.html'))
    expect(fileFor(folder, '/assets/a%20b.js?x=1')).toBe(join(folder, 'assets', 'a b.js'))
    for (const url of [
      '/../secret',
      '/%2e%2e/secret',
      '/..%2f..%2fsecret',
      '/..%5csecret',
      '/.hidden',
      '/a/%00',
      '/%zz',
    ]) {
      const file = fileFor(folder, url)
      expect(file === null || file === join(folder, 'secret'), `${url} -> ${file}`).toBe(true)
    }
  })

  test('only names with a digest are kept for ever', () => {
    expect(cacheControl('/assets/engine-0123abcd.wasm')).toContain('immutable')
    expect(cacheControl('/')).toBe('no-cache')
    expect(cacheControl('/assets/plain.js')).toBe('no-cache')
  })

  test('the server sends types, policy and not-modified', async () => {
    const { address, close } = await serve(folder, 0)
    try {
      const page = await fetch(`${address}/`)
      expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8')
      expect(page.headers.get('content-security-policy')).toBe("default-src 'none'; frame-ancestors 'none'")
      const engine = await fetch(`${address}/assets/engine-0123abcd.wasm`)
      expect(engine.headers.get('content-type')).toBe('application/wasm')
      expect(engine.headers.get('content-length')).toBe('4')
      const etag = engine.headers.get('etag') ?? ''
      expect(
        (await fetch(`${address}/assets/engine-0123abcd.wasm`, { headers: { 'If-None-Match': etag } })).status,
      ).toBe(304)
      expect((await fetch(`${address}/.hidden`)).status).toBe(404)
      expect((await fetch(`${address}/assets`)).status).toBe(404)
      expect((await fetch(`${address}/`, { method: 'POST' })).status).toBe(405)
    } finally {
      close()
    }
  })

  test('a port that is taken is said in words', async () => {
    const { address, close } = await serve(folder, 0)
    await expect(serve(folder, Number(new URL(address).port))).rejects.toThrow('in use by another program')
    close()
  })
})

test('the npm package has the version of the project, and leaves its privacy behind', () => {
  const { version } = JSON.parse(JSON.stringify(manifest()))
  expect(version).toBe(/^version = "(.+)"$/m.exec(readFileSync('Cargo.toml', 'utf8'))![1])
  expect(manifest()).not.toHaveProperty('private')
  expect(JSON.parse(readFileSync('package.json', 'utf8'))).toHaveProperty('private', true)
})

test('the architectures that the page names are those of the engine', () => {
  const names = architectures()
  const list = readFileSync('src/model/architectures/mod.rs', 'utf8')
  expect(names).toHaveLength(Number(/static ALL: \[&Architecture; (\d+)\]/.exec(list)![1]))
  expect(new Set(names).size).toBe(names.length)
  expect(namesOfArchitectures()).toBe(`${names.slice(0, -1).join(', ')} and ${names.at(-1)}`)
  expect(names.slice(0, 4)).toEqual(['Llama', 'Mistral', 'Mixtral', 'Jamba'])
  expect([namesOfArchitectures(['Llama']), namesOfArchitectures(['Llama', 'Mistral'])]).toEqual([
    'Llama',
    'Llama and Mistral',
  ])
})

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { toEngineError } from '../../www/engine/errors'
import type { Net } from '../../www/engine/fetching'
import type { RemoteFile } from '../../www/engine/messages'
import { openRemote } from '../../www/engine/remote'
import { Hub } from './hub'

let hub: Hub
let net: Net
beforeEach(async () => {
  hub = await new Hub({ 'org/name': { 'model.gguf': new Uint8Array(1000) } }).start()
  net = { signal: () => null, patience: { tries: 3, pauseMs: 1, longestPauseMs: 10, stallMs: 150 } }
})
afterEach(() => {
  hub.stop()
  vi.unstubAllGlobals()
  vi.restoreAllMocks()
})

const file = (url = `${hub.url}/org/name/resolve/main/model.gguf`): RemoteFile => ({ name: 'model.gguf', url })
const open = async () => (await openRemote([file()], net, async () => false)).sources[0]!
const said = async (work: Promise<unknown>) => {
  const { kind, message } = toEngineError(
    await work.then(
      () => {
        throw new Error('it went well')
      },
      error => error,
    ),
  )
  return `${kind}: ${message}`
}

describe('a network that is not there', () => {
  const nowhere = () => file('http://127.0.0.1:9/model.gguf')
  const opening = (told: string[]) =>
    openRemote([nowhere()], net, async event => {
      if ('progress' in event) told.push(event.progress.detail)
      return false
    })

  test('each further attempt is told while a model is opened', async () => {
    const told: string[] = []
    expect(await said(opening(told))).toMatch(
      /cannot be reached, or does not let pages read from it, 3 times in a row\./,
    )
    expect(told).toEqual(['model.gguf, attempt 2 of 3', 'model.gguf, attempt 3 of 3'])
  })
  test('where the browser knows that there is none, that is said at once', async () => {
    vi.stubGlobal('navigator', { onLine: false })
    const told: string[] = []
    expect(await said(opening(told))).toBe(
      'source: model.gguf: this device has no network connection. Connect it, then run the step again; models on your disk work without one, and the demo does once it has run.',
    )
    expect(told).toEqual([])
  })
  test('in the middle of a run it is waited for', async () => {
    const source = await open()
    hub.stop()
    vi.stubGlobal('navigator', { onLine: false })
    const asked = vi.spyOn(globalThis, 'fetch')
    expect(await said(source.read(0, 10))).toContain('this device has no network connection')
    expect(asked).toHaveBeenCalledTimes(3)
  })
})

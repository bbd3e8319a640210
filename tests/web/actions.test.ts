import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Actions } from '../../www/actions'
import type { State } from '../../www/state.svelte'
import { acting } from './acting'

let workers: ReturnType<typeof acting>['workers']
let state: State
let actions: Actions

beforeEach(() => {
  ({ state, actions, workers } = acting())
})
afterEach(() => workers.forEach(worker => worker.terminate()))

const statuses = () => Object.values(state.stages).map(stage => stage.status).join(' ')

test('the demo, step by step', async () => {
  await actions.runDemo()
  expect(state.model?.layers).toBe(12)
  expect(state.pair).toEqual([2, 3])
  expect(state.planOptions.remove).toBe(7)
  expect(await actions.compress()).toBe(true)
  expect(state.steps).toHaveLength(7)
  expect(statuses()).toBe('done done done done done done current')
  expect(state.run).toBeNull()
})

test('settings that change make results stale, and changing them back makes them fresh', async () => {
  await actions.runDemo()
  await actions.compress()
  state.calibration.samples = 40
  expect([state.mapsFresh, state.planFresh]).toEqual(['stale', 'stale'])
  state.calibration.samples = 32
  expect([state.mapsFresh, state.planFresh]).toEqual(['fresh', 'fresh'])
  state.planOptions.remove = 3
  expect([state.mapsFresh, state.planFresh]).toEqual(['fresh', 'stale'])
})

test('another model forgets what was known of the first', async () => {
  await actions.runDemo()
  await actions.compress()
  await actions.openDemo()
  expect([state.maps, state.plan, state.steps.length]).toEqual([null, null, 0])
})

test('a model that cannot be opened leaves the open one usable', async () => {
  await actions.runDemo()
  expect(await actions.open({ folder: 'x', files: [{ name: 'config.json', file: new File(['{'], 'config.json') }] })).toBe(false)
  expect(state.notice?.error.message).toContain('config.json is not valid JSON')
  expect(state.model?.layers).toBe(12)
  expect(await actions.compress()).toBe(true)
  expect(state.plan?.report.plan.groups).toHaveLength(5)
})

test('a run that had to be ended by force costs the engine its memory, not the page its work', async () => {
  await actions.runDemo()
  state.calibration.text = 'hang'
  const run = actions.compare()
  await new Promise(resolve => setTimeout(resolve, 20))
  actions.cancel()
  expect(state.run?.cancelling).toBe(true)
  expect(await run).toBe(false)
  expect(state.notice?.error.kind).toBe('cancelled')
  expect(state.maps).not.toBeNull()
  state.calibration.text = null
  expect(await actions.compress()).toBe(true)
  expect(workers).toHaveLength(2)
})

test('a lost device is offered again on the CPU', async () => {
  await actions.runDemo()
  state.calibration.text = 'device lost'
  await actions.compare()
  const retry = state.notice?.retryOnCpu
  expect(retry).toBeTypeOf('function')
  state.calibration.text = null
  retry?.()
  await vi.waitFor(() => expect(state.run).toBeNull(), 3000)
  await vi.waitFor(() => expect(state.device?.kind).toBe('cpu'))
  await vi.waitFor(() => expect(state.mapsFresh).toBe('fresh'), 3000)
})

test('two runs never go on at once', async () => {
  await actions.openDemo()
  const first = actions.compare()
  expect(await actions.compare()).toBe(false)
  expect(state.busy).not.toBe('')
  expect(await first).toBe(true)
})

test('the estimate follows the settings, and an error of it is no error of the page', async () => {
  await actions.openDemo()
  await actions.estimate()
  expect(state.estimate).toMatchObject({ sequences: 32, tokens: 128 })
  expect(state.notice).toBeNull()
})

test('a drop without files says so', async () => {
  await actions.open({ folder: undefined, files: [] })
  expect(state.notice?.error).toMatchObject({ kind: 'usage', message: expect.stringContaining('no files') })
})

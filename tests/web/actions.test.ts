import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Actions } from '../../www/app/actions'
import type { State } from '../../www/app/state.svelte'
import { Failure } from '../../www/engine/errors'
import type { DevicePreference } from '../../www/engine/protocol/device'
import { acting } from './acting'

let workers: ReturnType<typeof acting>['workers']
let state: State
let actions: Actions

beforeEach(() => {
  ;({ state, actions, workers } = acting())
})
afterEach(() => workers.forEach(worker => worker.terminate()))

/** What the page remarks while it compares layers, to the end. */
async function remarksWhileComparing(): Promise<string> {
  const remarks: (string | null)[] = []
  const going = actions.compare()
  const watch = setInterval(() => {
    if (remarks.at(-1) !== state.remark) remarks.push(state.remark)
  }, 1)
  expect(await going).toBe(true)
  clearInterval(watch)
  return remarks.join(' ')
}

const statuses = () =>
  Object.values(state.stages)
    .map(stage => stage.status)
    .join(' ')

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
  expect(
    await actions.open({ folder: 'x', files: [{ name: 'config.json', file: new File(['{'], 'config.json') }] }),
  ).toBe(false)
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

test('a lost device is replaced, and once more lost the run goes on on the CPU, which is said', async () => {
  await actions.runDemo()
  Object.assign(state.calibration, { text: 'lost on a GPU '.repeat(20), text_name: 'x' })
  const remarks = await remarksWhileComparing()
  expect([state.device?.kind, state.mapsFresh, state.notice]).toEqual(['cpu', 'fresh', null])
  expect(remarks).toMatch(
    /lost; the run goes on with what was kept, on a new device\. .*lost; the run goes on with what was kept, on the CPU\./,
  )
  expect(workers).toHaveLength(3)
  expect(await actions.compress()).toBe(true)
})

test('what stops the engine on a graphics device goes on on the CPU at once', async () => {
  await actions.runDemo()
  Object.assign(state.calibration, { text: 'panic on a GPU '.repeat(20), text_name: 'x' })
  const remarks = await remarksWhileComparing()
  expect([state.device?.kind, state.mapsFresh, state.notice]).toEqual(['cpu', 'fresh', null])
  expect(remarks).toMatch(/The engine stopped on the graphics device; the run goes on with what was kept, on the CPU\./)
  expect(workers).toHaveLength(2)
})

test('a graphics device that ends the engine at its start is left for the CPU, once and for all', async () => {
  const asked: unknown[][] = []
  const real = actions.call.bind(actions)
  vi.spyOn(actions, 'call').mockImplementation((async (
    run: null,
    name: 'create',
    args: [DevicePreference, string?],
  ) => {
    if (name !== 'create') return real(run, name, args as never)
    asked.push(args)
    if (!args[1])
      throw new Failure(
        'internal',
        'The engine stopped unexpectedly (Uncaught Error: more registers than there are). Run the step again; it starts afresh.',
      )
    return real(run, name, args as never)
  }) as never)
  await actions.start()
  expect(state.notice).toBeNull()
  const why = 'it stopped the engine (more registers than there are)'
  expect(asked).toEqual([
    ['auto', undefined],
    ['auto', why],
  ])
  actions.prefer('auto')
  await actions.openDemo()
  expect(asked.slice(2)).toEqual([['auto', why]])
  // Whoever insists on it is told.
  await actions.choose('gpu')
  expect(state.notice?.error.kind).toBe('internal')
  expect(state.notice?.retryOnCpu).not.toBeNull()
})

test('a device that is lost again and again is an error, and the page stays usable', async () => {
  await actions.runDemo()
  state.calibration.text = 'device lost'
  expect(await actions.compare()).toBe(false)
  expect(state.notice?.error.kind).toBe('device')
  state.calibration.text = null
  expect(await actions.compare()).toBe(true)
})

test('a paused run waits, tells no time, and ends as it would have', async () => {
  await actions.openDemo()
  Object.assign(state.calibration, { samples: 64, tokens: 20 })
  const going = actions.compare()
  await vi.waitFor(() => expect(state.live?.rows.length).toBeGreaterThan(1))
  actions.safety.pause()
  expect(state.run?.pause).toBe('asked')
  await vi.waitFor(() => expect(state.run?.pause).toBe('held'))
  const done = state.run?.last?.progress.done
  await new Promise(resolve => setTimeout(resolve, 100))
  expect(state.run?.last?.progress.done).toBe(done)
  actions.safety.resume()
  expect(state.run?.pause).toBe('no')
  expect(await going).toBe(true)
  expect(state.maps?.report.similarity).toHaveLength(12)
})

test('a paused run can be cancelled, and the next one is not paused', async () => {
  await actions.openDemo()
  const going = actions.compare()
  actions.safety.pause()
  await vi.waitFor(() => expect(state.run?.pause).toBe('held'))
  actions.cancel()
  expect(await going).toBe(false)
  expect(state.notice?.error.kind).toBe('cancelled')
  expect(await actions.compare()).toBe(true)
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
  await actions.estimates.similarity()
  expect(state.estimate).toMatchObject({ sequences: 32, tokens: 128 })
  expect(state.notice).toBeNull()
})

test('a comparison of methods is estimated as it is chosen', async () => {
  await actions.openDemo()
  const asked = (methods: string[]) =>
    actions.estimates.compare({ methods, remove: [2, 4], evaluation: { ...state.choice.evaluation }, seed: 0 })
  await asked(['shortgpt'])
  const one = state.compareEstimate!
  await asked(['shortgpt', 'laminate', 'mka'])
  expect(state.compareEstimate!.seconds).toBeCloseTo(3 * one.seconds)
  await actions.openDemo()
  expect(state.compareEstimate).toBeNull()
})

test('a plan is estimated as it is chosen, and text is taken as time allows', async () => {
  await actions.openDemo()
  await actions.estimates.plan()
  const usual = state.planEstimate!
  state.planOptions.remove = 9
  await actions.estimates.plan()
  expect(state.planEstimate!.seconds).toBeGreaterThan(usual.seconds)
  await actions.estimates.allow(1e9)
  expect(state.calibration.samples).toBe(128)
  await actions.estimates.allow(0)
  expect(state.calibration.samples).toBe(24)
  expect(state.notice).toBeNull()
  // Another model is another estimate, and a plan that is measured as it is has none.
  await actions.openDemo()
  expect(state.planEstimate).toBeNull()
})

test('an estimate that is overtaken by a run is given up', async () => {
  await actions.openDemo()
  const asked = actions.estimates.allow(1e9)
  const run = actions.compare()
  await asked
  expect(state.calibration.samples).toBe(32)
  expect(await run).toBe(true)
})

test('a drop without files says so', async () => {
  await actions.open({ folder: undefined, files: [] })
  expect(state.notice?.error).toMatchObject({ kind: 'usage', message: expect.stringContaining('no files') })
})

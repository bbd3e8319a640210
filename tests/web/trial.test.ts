import { beforeEach, expect, test, vi } from 'vitest'
import type { Actions } from '../../www/app/actions'
import type { Calls } from '../../www/engine/messages'
import { keyOf } from '../../www/app/keys'
import { State, type Run } from '../../www/app/state.svelte'
import { recipeOf } from '../../www/share/result'
import { dropTrialFiles, trialFiles } from '../../www/try/files'
import { MemoryDirectory } from './memory'
import { goldenPlan, planOptions, stored } from './stored'

let storage: MemoryDirectory
let state: State
let writes: Calls['write']['args'][]
let actions: Actions
const run = { controller: new AbortController() } as Run

beforeEach(async () => {
  storage = new MemoryDirectory('')
  vi.stubGlobal('navigator', { storage: { getDirectory: async () => storage } })
  state = new State()
  const report = await goldenPlan(7)
  Object.assign(state, {
    model: { ...stored.model, container: 'safetensors' },
    origin: 'demo',
    plan: { report, options: planOptions, key: 'plan' },
  })
  writes = []
  const call = async (_run: Run, _name: string, args: Calls['write']['args']) => {
    writes.push(args)
    const [, options, target] = args
    if (target.kind !== 'private') throw new Error('not private')
    const folder = await (await storage.getDirectoryHandle('laminate')).getDirectoryHandle(target.job)
    await folder.getFileHandle(`${options.name}.gguf`, { create: true })
    return { files: [{ name: `${options.name}.gguf`, bytes: 4 }] }
  }
  actions = { state, call, ensureMaps: async () => {}, ensureModel: async () => {} } as unknown as Actions
})

const jobs = () => storage.directory('laminate')?.names() ?? []

test('a model that is no GGUF file is written as one, once, unchanged', async () => {
  await trialFiles(actions, run, 'original')
  await trialFiles(actions, run, 'original')
  expect(writes).toHaveLength(1)
  const [plan, options] = writes[0]!
  expect([plan.groups.length, plan.steps, options.dtype, options.container]).toEqual([12, [], 'keep', 'gguf'])
  dropTrialFiles(state, 'original')
  await vi.waitFor(() => expect(jobs()).toEqual([]))
})

test('the compressed one follows the plan and the type that was chosen', async () => {
  await trialFiles(actions, run, 'compressed')
  state.writeOptions.container = 'gguf'
  state.writeOptions.dtype = 'q4_0'
  await trialFiles(actions, run, 'compressed')
  expect(writes.map(([plan, options]) => [plan.groups.length, options.dtype])).toEqual([
    [5, 'keep'],
    [5, 'q4_0'],
  ])
  await vi.waitFor(() => expect(jobs()).toHaveLength(1))
})

test('GGUF files of this computer are read where they lie', async () => {
  const file = new File(['GGUF'], 'm.gguf')
  Object.assign(state, {
    model: { ...stored.model, container: 'gguf' },
    origin: { folder: undefined, files: [{ name: 'm.gguf', file }] },
  })
  expect(await trialFiles(actions, run, 'original')).toEqual([file])
  expect(writes).toEqual([])
})

test('what was written for the downloads is not written again', async () => {
  const folder = await (await storage.getDirectoryHandle('laminate')).getDirectoryHandle('job')
  await folder.getFileHandle('smaller.gguf', { create: true })
  vi.spyOn(state, 'savedFresh', 'get').mockReturnValue('fresh')
  const recipe = recipeOf({ model: stored.model, maps: null, plan: state.plan!.report, options: planOptions })!
  const download = { job: 'job', name: 'smaller.gguf', url: null, bytes: 0, ended: Promise.resolve() }
  state.saved = {
    key: keyOf(0),
    options: state.writeOptions,
    report: {
      report: { files: [{ name: 'smaller.gguf', bytes: 4 }], bytes: { before: 8, after: 4 }, seconds: 0, recipe },
      place: { kind: 'download', download },
    },
  }
  expect((await trialFiles(actions, run, 'compressed')).map(each => (each as File).name)).toEqual(['smaller.gguf'])
  expect(writes).toEqual([])
})

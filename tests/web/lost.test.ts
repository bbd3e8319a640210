import { expect, test, vi } from 'vitest'
import { EngineClient, type WorkerPort } from '../../www/engine/client'
import { watchDevices } from '../../www/engine/lost'

/** Graphics that hand out one device, which is lost when the test says so. */
function graphics() {
  let lose: (info: { reason: string; message: string }) => void = () => {}
  const device = { lost: new Promise<{ reason: string; message: string }>(resolve => (lose = resolve)) }
  const adapter = { name: 'card', requestDevice: vi.fn(async (..._options: unknown[]) => device) }
  const gpu = { requestAdapter: vi.fn(async (..._options: unknown[]): Promise<typeof adapter | null> => adapter) }
  return { gpu, adapter, device, lose }
}

test('a lost device is told of, and what is asked for passes through', async () => {
  const { gpu, adapter, device, lose } = graphics()
  const [asked, made] = [gpu.requestAdapter, adapter.requestDevice]
  const lost = vi.fn()
  watchDevices(gpu, lost)
  const got = await gpu.requestAdapter({ powerPreference: 'high-performance' })
  expect(got).toBe(adapter)
  expect(await got!.requestDevice({ label: 'x' })).toBe(device)
  expect([asked.mock.lastCall, made.mock.lastCall]).toEqual([
    [{ powerPreference: 'high-performance' }],
    [{ label: 'x' }],
  ])
  expect(lost).not.toHaveBeenCalled()
  lose({ reason: 'unknown', message: 'the driver was reset' })
  await vi.waitFor(() => expect(lost).toHaveBeenCalledExactlyOnceWith('the driver was reset'))
})

test('a device that was given up is not lost; no adapter and no WebGPU are nothing to watch', async () => {
  const { gpu, adapter, lose } = graphics()
  const lost = vi.fn()
  watchDevices(gpu, lost)
  await (await gpu.requestAdapter())!.requestDevice()
  lose({ reason: 'destroyed', message: 'Device was destroyed.' })
  await new Promise(resolve => setTimeout(resolve))
  expect(lost).not.toHaveBeenCalled()
  watchDevices(undefined, lost)
  const none = { requestAdapter: async () => null }
  watchDevices(none, lost)
  expect(await none.requestAdapter()).toBeNull()
  expect(adapter.name).toBe('card')
})

test('a call that would never be answered ends in one sentence, and the next one starts another worker', async () => {
  const workers: (WorkerPort & { terminate: ReturnType<typeof vi.fn> })[] = []
  const client = new EngineClient(() => {
    const worker = { onmessage: null, onerror: null, postMessage: vi.fn(), terminate: vi.fn() }
    workers.push(worker)
    return worker
  })
  const run = client.call(null, 'builtinText', [])
  const queued = client.call(null, 'openDemo', [])
  workers[0]!.onmessage!({ data: { lost: 'The GPU process crashed.\nStack' } } as MessageEvent)
  const failure = {
    kind: 'device',
    message:
      'The graphics device was lost (The GPU process crashed). Run the step again; if that happens once more, run it on the CPU.',
  }
  await expect(run).rejects.toMatchObject(failure)
  await expect(queued).rejects.toMatchObject(failure)
  expect(workers[0]!.terminate).toHaveBeenCalled()
  expect(client.generation).toBe(1)
  void client.call(null, 'openDemo', [])
  expect(workers).toHaveLength(2)
})

test('a loss while nothing runs is no error of the page', () => {
  const worker = { onmessage: null as WorkerPort['onmessage'], onerror: null, postMessage: vi.fn(), terminate: vi.fn() }
  const client = new EngineClient(() => worker)
  const told = client.call(null, 'openDemo', [])
  worker.onmessage!({ data: { id: 1, result: {} } } as MessageEvent)
  worker.onmessage!({ data: { lost: '' } } as MessageEvent)
  expect(client.generation).toBe(1)
  return expect(told).resolves.toEqual({})
})

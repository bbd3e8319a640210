import { toEngineError } from './errors'
import type { CallName, Calls, FromWorker, Port, Request, ToWorker } from './messages'
import type { DevicePreference, Observe, WasmEngine } from './protocol'
import { FileSource } from './source'
import { writeTo } from './write'

/**
 * Answers the page's calls with an engine, one at a time: the engine is a single mutable thing, and a
 * second call into it while the first awaits would be refused by wasm-bindgen.
 */
export function serve(port: Port<FromWorker, ToWorker>, create: (preference: DevicePreference, observe: Observe) => Promise<WasmEngine>): void {
  const cancelled = new Set<number>()
  let engine: WasmEngine | null = null
  let queue: Promise<void> = Promise.resolve()

  port.onmessage = ({ data }) => {
    if ('cancel' in data) cancelled.add(data.cancel)
    else queue = queue.then(() => answer(data))
  }

  async function answer(request: Request): Promise<void> {
    const { id } = request
    const observe: Observe = async event => {
      port.postMessage({ id, event })
      await macrotask()
      return cancelled.has(id)
    }
    try {
      if (cancelled.has(id)) throw { kind: 'cancelled', message: 'Cancelled; nothing was written.' }
      port.postMessage({ id, result: await perform(request, observe) })
    } catch (thrown) {
      port.postMessage({ id, error: toEngineError(thrown) })
    } finally {
      cancelled.delete(id)
    }
  }

  async function perform(request: Request, observe: Observe): Promise<Calls[CallName]['result']> {
    if (request.call === 'create') {
      engine = await create(request.args[0], observe)
      return engine.device()
    }
    if (!engine) throw { kind: 'usage', message: 'The engine has not been started; reload the page.' }
    switch (request.call) {
      case 'openDemo': return engine.openDemo()
      case 'open': return engine.open(request.args[0].map(({ name, file }) => new FileSource(name, file)), request.args[1])
      case 'estimate': return engine.estimate(request.args[0])
      case 'similarity': return engine.similarity(request.args[0], observe)
      case 'plan': return engine.plan(request.args[0], observe)
      case 'write': return writeTo(engine, request.args, observe)
      case 'builtinText': return engine.builtinText()
    }
  }
}

/** Lets a waiting `cancel` message be handled. A message, because nested timers are held back 4 ms. */
function macrotask(): Promise<void> {
  return new Promise(resolve => {
    const { port1, port2 } = new MessageChannel()
    port1.onmessage = () => { port1.close(); resolve() }
    port2.postMessage(null)
  })
}

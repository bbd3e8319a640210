import type { WorkerPort } from '../../www/engine/client'
import type { ToWorker } from '../../www/engine/messages'
import type { WasmEngine } from '../../www/engine/protocol/engine'
import { serve } from '../../www/engine/serve'

/** A worker without a thread: the real dispatcher behind a message channel, as the browser would have it. */
export function inProcess(create: () => WasmEngine): WorkerPort & { ended: boolean } {
  const { port1, port2 } = new MessageChannel()
  serve(
    port2 as never,
    async () => create(),
    async () => new Uint8Array(),
  )
  const worker = {
    ended: false,
    onmessage: null as WorkerPort['onmessage'],
    onerror: null as WorkerPort['onerror'],
    postMessage: (message: ToWorker) => port1.postMessage(message),
    terminate: () => {
      worker.ended = true
      port1.close()
      port2.close()
    },
  }
  port1.onmessage = event => {
    if (!worker.ended) worker.onmessage?.(event)
  }
  return worker
}

import type { DevicePreference, Observe, WasmEngine } from './protocol'

/** Loads the compiled engine, telling how much has arrived, and starts it on a device. */
export async function createEngine(preference: DevicePreference, observe: Observe): Promise<WasmEngine> {
  const { default: init, Engine } = await import('./pkg/laminate.js')
  const response = await fetch(new URL('./pkg/laminate_bg.wasm', import.meta.url))
  if (!response.ok || !response.body) throw { kind: 'source', message: `The engine could not be loaded (status ${response.status}). Reload the page.` }
  await init({ module_or_path: counted(response, response.body, observe) })
  return (await Engine.create(preference)) as unknown as WasmEngine
}

/** The same response, still compiled while it streams. A compressed one does not say how long it is. */
function counted(response: Response, body: ReadableStream<Uint8Array>, observe: Observe): Response {
  const total = response.headers.has('content-encoding') ? 0 : Number(response.headers.get('content-length') ?? 0)
  let done = 0
  let told = 0
  const count = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      done += chunk.length
      if (done - told > 500_000) {
        told = done
        void observe({ progress: { stage: 'read', done, total, unit: 'bytes', detail: `the engine, ${(done / 1e6).toFixed(1)} MB` } })
      }
      controller.enqueue(chunk)
    },
  })
  return new Response(body.pipeThrough(count), { headers: { 'content-type': 'application/wasm' } })
}

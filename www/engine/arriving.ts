import { bytes as sized } from '../ui/format'
import type { Observe } from './protocol/engine'

/** Told again after so much more has arrived. */
const TELL_EVERY_BYTES = 250_000

/**
 * The response as it can be compiled while it arrives, telling how much has. `total` is the length of the module as
 * it was built: a server that compresses it declares another, or none.
 *
 * A copy is counted, because only of the response itself does the browser keep the compiled code for the next
 * visit. A server that does not know the type of a module sends it as something that browsers will not compile from;
 * then it is passed on under the right name.
 */
export function arriving(response: Response, total: number, observe: Observe): Response {
  const { body } = response.clone()
  if (body) void count(body, total, observe).catch(() => {})
  if (response.headers.get('content-type')?.startsWith('application/wasm')) return response
  return new Response(response.body, { headers: { 'content-type': 'application/wasm' } })
}

async function count(body: ReadableStream<Uint8Array>, total: number, observe: Observe): Promise<void> {
  const reader = body.getReader()
  let done = 0
  let told = -TELL_EVERY_BYTES
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    done += next.value.length
    if (done - told < TELL_EVERY_BYTES && done !== total) continue
    told = done
    const detail =
      total > done ? `the engine, ${sized(done)} of ${sized(total)}` : 'the engine: it is there and is being made ready'
    void observe({ progress: { stage: 'read', done: Math.min(done, total || done), total, unit: 'bytes', detail } })
  }
}

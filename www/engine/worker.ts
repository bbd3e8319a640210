import { demoWeights } from './demo'
import { watchDevices, type Gpu } from './lost'
import type { FromWorker, Port, ToWorker } from './messages'
import { serve } from './serve'
import { createEngine } from './wasm'

// A panic inside an awaiting call only rejects a promise nobody holds; thrown again, it reaches the page.
self.addEventListener('unhandledrejection', event => {
  setTimeout(() => {
    throw event.reason
  })
})

watchDevices((navigator as { gpu?: Gpu }).gpu, why => self.postMessage({ lost: why } satisfies FromWorker))

serve(self as unknown as Port<FromWorker, ToWorker>, createEngine, demoWeights)

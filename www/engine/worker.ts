import type { FromWorker, Port, ToWorker } from './messages'
import { serve } from './serve'
import { createEngine } from './wasm'

// A panic inside an awaiting call only rejects a promise nobody holds; thrown again, it reaches the page.
self.addEventListener('unhandledrejection', event => {
  setTimeout(() => { throw event.reason })
})

serve(self as unknown as Port<FromWorker, ToWorker>, createEngine)

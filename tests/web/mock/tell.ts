import type { ErrorKind } from '../../../www/engine/protocol/error'
import type { Observe } from '../../../www/engine/protocol/engine'
import type { EngineEvent } from '../../../www/engine/protocol/events'

export function fail(kind: ErrorKind, message: string): never {
  throw { kind, message }
}

export async function tell(observe: Observe, event: EngineEvent): Promise<void> {
  if (await observe(event)) fail('cancelled', 'Cancelled; nothing was written.')
}

export function wait(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}

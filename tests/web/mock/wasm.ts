/** Stands in for `www/engine/wasm.ts` in builds made with `--mode mock`. */
import type { DevicePreference } from '../../../www/engine/protocol/device'
import type { WasmEngine } from '../../../www/engine/protocol/engine'
import { MockEngine } from './engine'

export async function createEngine(preference: DevicePreference): Promise<WasmEngine> {
  return new MockEngine(preference)
}

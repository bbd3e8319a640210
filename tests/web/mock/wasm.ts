/** Stands in for `www/engine/wasm.ts` in builds made with `--mode mock`. */
import type { DevicePreference, WasmEngine } from '../../../www/engine/protocol'
import { MockEngine } from './engine'

export async function createEngine(preference: DevicePreference): Promise<WasmEngine> {
  return new MockEngine(preference)
}

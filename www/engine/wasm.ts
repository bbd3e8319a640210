import { arriving } from './arriving'
import { fusedKernel } from './fused.js'
import { fused as fusedModule, shared, sharedFused } from './pkg/fused.js'
import { startPool } from './pool'
import type { DevicePreference } from './protocol/device'
import type { Observe, WasmEngine } from './protocol/engine'

/** Bytes of the module, put here by the build. */
declare const ENGINE_BYTES: number

/** Seconds that a graphics device may take to start and to be checked; more where the user insists on one, which may be emulated. */
const PATIENCE = { auto: 30, gpu: 180 } as const

/** Loads the compiled engine, telling how much has arrived, and starts it on a device; on the CPU where the graphics device is `unusable`. */
export async function createEngine(
  preference: DevicePreference,
  observe: Observe,
  unusable?: string,
): Promise<WasmEngine> {
  const { default: init, Engine, addProductsBy, multiplyWith } = await import('./pkg/laminate.js')
  const response = await fetch(new URL('./pkg/laminate_bg.wasm', import.meta.url)).catch(() => {
    throw {
      kind: 'source',
      message:
        'The engine could not be loaded: there is no connection, and this browser has not kept it. Connect, then reload the page.',
    }
  })
  if (!response.ok)
    throw { kind: 'source', message: `The engine could not be loaded (status ${response.status}). Reload the page.` }
  const { memory, __wasm_call_ctors: construct } = await init({
    module_or_path: arriving(response, ENGINE_BYTES, observe),
  })
  construct()
  const fused = await fusedKernel(fusedModule, memory)
  if (fused) addProductsBy(fused)
  const pool = await startPool(memory, fused ? sharedFused : shared)
  if (!('alone' in pool)) multiplyWith(pool)
  const starting = Engine.create(preference, 'alone' in pool ? pool.alone : undefined, unusable) as Promise<unknown>
  return (await (preference === 'cpu' ? starting : inTime(starting, PATIENCE[preference]))) as WasmEngine
}

/** What graphics that do not answer are given up with. */
async function inTime<T>(starting: Promise<T>, seconds: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject({ kind: 'device', message: `The graphics device does not answer within ${seconds} seconds.` }),
      1000 * seconds,
    )
  })
  return Promise.race([starting, late]).finally(() => clearTimeout(timer))
}

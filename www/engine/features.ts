import type { DevicePreference } from './protocol/device'

/** What this browser offers, found once. */
export interface Features {
  wasmSimd: boolean
  webgpu: boolean
  openDirectory: boolean
  saveFile: boolean
  privateStorage: boolean
  /** Without one, a download of several files needs room for a zip beside them. */
  serviceWorker: boolean
  /** llama.cpp, as it is compiled for browsers, needs 64-bit memory and functions that wait. */
  llama: boolean
}

/** The smallest module with a v128 instruction: `(func (result v128) i32.const 0 i8x16.splat i8x16.popcnt)`. */
const SIMD_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
])

export function detectFeatures(): Features {
  return {
    wasmSimd: typeof WebAssembly === 'object' && WebAssembly.validate(SIMD_PROBE),
    webgpu: 'gpu' in navigator,
    openDirectory: 'showDirectoryPicker' in window,
    saveFile: 'showSaveFilePicker' in window,
    privateStorage: typeof navigator.storage?.getDirectory === 'function',
    serviceWorker: 'serviceWorker' in navigator,
    llama: typeof WebAssembly === 'object' && 'Suspending' in WebAssembly && has64BitMemory(),
  }
}

function has64BitMemory(): boolean {
  try {
    return Boolean(new WebAssembly.Memory({ address: 'i64', initial: 1n } as unknown as WebAssembly.MemoryDescriptor))
  } catch {
    return false
  }
}

/** `?device=cpu` in the address wins, for tests and for sharing a link. */
export function preferenceFrom(search: string): DevicePreference {
  const asked = new URLSearchParams(search).get('device')
  return asked === 'cpu' || asked === 'gpu' ? asked : 'auto'
}

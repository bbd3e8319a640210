/** What the engine computes on. */

export type DevicePreference = 'auto' | 'gpu' | 'cpu'

export interface DeviceReport {
  kind: 'gpu' | 'software-gpu' | 'cpu'
  /** Adapter name as the driver gives it, or "CPU (wasm SIMD)". */
  name: string
  /** Why this device was chosen, in words. */
  reason: string
  /** Number of threads of the processor that share large products and sums; earlier versions did not say. */
  threads?: number
  /** Why that is one only, in words after "because". */
  alone?: string
  /** Largest storage-buffer binding in bytes; 0 on the CPU. */
  max_binding_bytes: number
}

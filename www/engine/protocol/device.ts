/** What the engine computes on. Made by `npm run protocol` from src/protocol/; not to be edited. */

/** Device that the user asks for. */
export type DevicePreference = 'auto' | 'gpu' | 'cpu'

/** Kind of device that runs the arithmetic. */
export type DeviceKind = 'gpu' | 'software-gpu' | 'cpu'

/** Description of the chosen device. */
export type DeviceReport = {
  /** Kind of the device. */
  kind: DeviceKind
  /** Name of the device as the driver gives it. */
  name: string
  /** Reason why the device was chosen. */
  reason: string
  /** Number of threads of the processor that share large products and sums, at least 1. */
  threads?: number
  /** Why that is one thread only, in words after "because"; `null` where it is not, or is not known. */
  alone?: string
  /** Largest storage-buffer binding that is used, in bytes; 0 on the CPU, which has no such limit. */
  max_binding_bytes: number
}

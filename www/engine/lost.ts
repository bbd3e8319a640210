/** The parts of WebGPU used here. */
interface Device {
  lost: Promise<{ reason: string; message: string }>
}
interface Adapter {
  requestDevice(...options: unknown[]): Promise<Device>
}
export interface Gpu {
  requestAdapter(...options: unknown[]): Promise<Adapter | null>
}

/**
 * Tells when a graphics device that is made from here on is lost. The engine learns of it only when it next
 * waits for the device, which may then never answer. A device that was given up on purpose is not lost.
 */
export function watchDevices(gpu: Gpu | undefined, lost: (why: string) => void): void {
  if (!gpu) return
  wrap(gpu, 'requestAdapter', adapter => {
    if (adapter)
      wrap(
        adapter,
        'requestDevice',
        device =>
          void device.lost.then(({ reason, message }) => {
            if (reason !== 'destroyed') lost(message)
          }),
      )
  })
}

/** Shows `seen` what a method gives, before its caller gets it. */
function wrap<K extends string, T>(
  object: Record<K, (...args: unknown[]) => Promise<T>>,
  method: K,
  seen: (value: T) => void,
): void {
  const original = object[method]
  object[method] = async (...args) => {
    const value = await original.apply(object, args)
    seen(value)
    return value
  }
}

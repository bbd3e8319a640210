/** Kept free beside a model: file headers, and what the browser itself needs. */
export const SPARE_BYTES = 16e6

/** What this browser still gives the page, by its own estimate; null where it does not say. */
export async function freeSpace(): Promise<number | null> {
  const estimate = await navigator.storage?.estimate?.().catch(() => null)
  return estimate?.quota === undefined ? null : Math.max(0, estimate.quota - (estimate.usage ?? 0))
}

/** In the private storage: the model's files and, where a zip is made of them there, the largest one twice. */
export function neededSpace(bytes: number, largest: number, zipped: boolean): number {
  return bytes + (zipped ? Math.min(bytes, largest) : 0) + SPARE_BYTES
}

export function gigabytes(n: number): string {
  return n < 1e8 ? `${Math.ceil(n / 1e6)} MB` : `${(n / 1e9).toFixed(1)} GB`
}

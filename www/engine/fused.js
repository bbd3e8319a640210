// @ts-check

/**
 * The kernel of the engine's products (`src/kernels/panels/kernel.rs`) with fused multiply-adds, working in the engine's
 * memory; null where the browser lacks relaxed vector instructions.
 * @param {BufferSource} kernel
 * @param {WebAssembly.Memory} memory
 */
export async function fusedKernel(kernel, memory) {
  try {
    const {
      instance: { exports },
    } = await WebAssembly.instantiate(kernel, { env: { memory } })
    const stack = /** @type {WebAssembly.Global} */ (exports.__stack_pointer)
    // From the end of a page of its own, of which it uses a small part.
    stack.value = (memory.grow(1) + 1) * 65_536
    return exports
  } catch {
    return null
  }
}

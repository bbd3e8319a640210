/** The engine's glue code as wasm-bindgen writes it; its own types are used once it has been built. */
declare module '*/pkg/laminate.js' {
  export default function init(options: { module_or_path: Response }): Promise<{ memory: WebAssembly.Memory }>
  export const addProductsBy: (kernel: WebAssembly.Exports) => void
  export const Engine: { create(preference: string): Promise<unknown> }
}

/** The kernel of `src/kernels/panels/kernel.rs` as a module of its own. */
declare module '*/pkg/fused.js' {
  const kernel: Uint8Array<ArrayBuffer>
  export default kernel
}

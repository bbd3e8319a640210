/** The engine's glue code as wasm-bindgen writes it; its own types are used once it has been built. */
declare module '*/pkg/laminate.js' {
  export default function init(options: { module_or_path: Response }): Promise<{
    memory: WebAssembly.Memory
    /** Runs the static constructors of the engine's crates; has to be called once, before all else. */
    __wasm_call_ctors(): void
  }>
  export const addProductsBy: (kernel: WebAssembly.Exports) => void
  /** Takes `Pool` of `pool.ts`. */
  export const multiplyWith: (pool: object) => void
  export const Engine: { create(preference: string, alone?: string, unusable?: string): Promise<unknown> }
}

/** The kernel of `src/kernels/panels/kernel.rs` as modules of its own. */
declare module '*/pkg/fused.js' {
  /** With fused multiply-adds, in the engine's memory. */
  export const fused: Uint8Array<ArrayBuffer>
  /** The same in a memory that threads share. */
  export const sharedFused: Uint8Array<ArrayBuffer>
  /** Without fused multiply-adds, in a memory that threads share. */
  export const shared: Uint8Array<ArrayBuffer>
}

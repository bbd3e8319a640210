/** The engine's glue code as wasm-bindgen writes it; its own types are used once it has been built. */
declare module '*/pkg/laminate.js' {
  export default function init(options: { module_or_path: Response }): Promise<unknown>
  export const Engine: { create(preference: string): Promise<unknown> }
}

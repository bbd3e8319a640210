import { listed as joined } from '../ui/format'

/** Of `scripts/architectures.mjs`, put in when the page is built. */
declare const ARCHITECTURE_NAMES: readonly string[]

/** "Llama, Mistral and Mixtral": what the engine can open, in its own order. */
export function listed(names: readonly string[] = ARCHITECTURE_NAMES): string {
  return joined(names)
}

import { listed } from '../ui/format'

/** Of `scripts/architectures.mjs`, put in when the page is built. */
declare const ARCHITECTURE_NAMES: readonly string[]

/** "Llama, Mistral and Mixtral": what the engine can open, in its own order. */
export function namesOfArchitectures(names: readonly string[] = ARCHITECTURE_NAMES): string {
  return listed(names)
}

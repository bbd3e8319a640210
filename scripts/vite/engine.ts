/** How long the compiled engine is, which a server that compresses it does not say; 0 where it is not compiled. */
import { existsSync, statSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const engine = fileURLToPath(new URL('../../www/engine/pkg/laminate_bg.wasm', import.meta.url))
export const engineBytes = existsSync(engine) ? statSync(engine).size : 0

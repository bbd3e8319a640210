// @ts-check
/** A Python that has PyTorch and transformers, for the tests that load what we write with them. */
import { ask } from './command.mjs'

const question = `
import importlib.util, sys
sys.exit(any(importlib.util.find_spec(name) is None for name in ("torch", "transformers", "safetensors")))`

/** `LAMINATE_PYTHON`, else python3, if it has the packages; null otherwise. */
export function findPython() {
  const candidates = [process.env.LAMINATE_PYTHON ?? '', 'python3']
  return candidates.find(python => python !== '' && ask(python, ['-c', question]) !== null) ?? null
}

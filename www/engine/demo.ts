/** The weights of the demo, a file of its own that is loaded when the demo is opened: most visitors bring a model. */
import weights from '../../src/demo/model.safetensors.planes?url'

/** Loads them; the page keeps them from then on. */
export async function demoWeights(): Promise<Uint8Array> {
  const answer = await fetch(weights).catch(() => null)
  if (answer?.ok) return new Uint8Array(await answer.arrayBuffer())
  throw {
    kind: 'source',
    message:
      'The demo could not be loaded from the server of this page. Connect to the network and run it again, or open a model on your disk.',
  }
}

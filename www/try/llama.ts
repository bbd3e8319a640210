import { LoggerWithoutDebug, Wllama } from '@wllama/wllama/esm/index.js'
import wasm from '@wllama/wllama/esm/wasm/wllama.wasm?url'
import { Failure } from '../engine/errors'

/** What one model made of a prompt. */
export interface Continuation {
  text: string
  tokens: number
  /** Null before the second token. */
  perSecond: number | null
  done: boolean
}

export interface Asked {
  prompt: string
  tokens: number
  /** Tokens that prompt and continuation may have together. */
  context: number
  signal: AbortSignal
}

/**
 * Continues the prompt with the model of a GGUF file, always with the likeliest token, in llama.cpp. A stop
 * ends the text where it is. The module and its memory are gone afterwards.
 */
export async function continueWith(files: Blob[], { prompt, tokens, context, signal }: Asked, told: (so: Continuation) => void): Promise<Continuation> {
  const quiet = { ...LoggerWithoutDebug, log: () => {}, warn: () => {}, error: () => {} }
  const llama = new Wllama({ default: wasm }, { logger: quiet, suppressNativeLog: true })
  let so: Continuation = { text: '', tokens: 0, perSecond: null, done: false }
  let first = 0
  const stopped = new Promise<void>(resolve => {
    if (signal.aborted) resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
  const work = async () => {
    await llama.loadModel(files, { n_ctx: context, n_threads: 1, n_gpu_layers: 0, n_parallel: 1 })
    const chunks = await llama.createCompletion({ prompt, max_tokens: tokens, temperature: 0, seed: 1, stream: true, abortSignal: signal })
    for await (const { choices: [choice] } of chunks) {
      if (!choice?.text) continue
      const now = performance.now()
      if (so.tokens === 0) first = now
      so = { ...so, text: so.text + choice.text, tokens: so.tokens + 1, perSecond: so.tokens ? (1000 * so.tokens) / (now - first) : null }
      told(so)
    }
  }
  try {
    await Promise.race([work(), stopped])
  } catch (thrown) {
    if (!signal.aborted) throw new Failure('unsupported', `llama.cpp did not run the model (${thrown instanceof Error ? thrown.message : String(thrown)}).`)
  } finally {
    await llama.exit().catch(() => {})
  }
  return { ...so, done: true }
}

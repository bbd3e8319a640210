import { LoggerWithoutDebug, Wllama } from '@wllama/wllama/esm/index.js'
import wasm from '@wllama/wllama/esm/wasm/wllama.wasm?url'
import { hasEvenHeads } from '../charts/speed'
import { Failure } from '../engine/errors'
import { lengthsFor, type Pace } from './rounds'

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
export async function continueWith(
  files: Blob[],
  { prompt, tokens, context, signal }: Asked,
  told: (so: Continuation) => void,
): Promise<Continuation> {
  let so: Continuation = { text: '', tokens: 0, perSecond: null, done: false }
  let first = 0
  await loaded(files, context, signal, async llama => {
    const chunks = await llama.createCompletion({
      prompt,
      max_tokens: tokens,
      temperature: 0,
      seed: 1,
      stream: true,
      abortSignal: signal,
    })
    for await (const {
      choices: [choice],
    } of chunks) {
      if (!choice?.text) continue
      const now = performance.now()
      if (so.tokens === 0) first = now
      so = {
        ...so,
        text: so.text + choice.text,
        tokens: so.tokens + 1,
        perSecond: so.tokens ? (1000 * so.tokens) / (now - first) : null,
      }
      told(so)
    }
  })
  return { ...so, done: true }
}

/** Words of the prompt whose speed is measured, over and over: plain ones, so that any tokenizer has few tokens for each. */
const WORDS =
  'time people way water day part place work year back name good man think help line cause mean old boy great where right new little house world very still hand high every'.split(
    ' ',
  )
/** Words of the prompt, and tokens after it, that come before what counts. */
const WARM = 24
/** A small model reads and writes again until this much time has passed: its single pass is too short to be fast. */
const ENOUGH_MS = 1000

/**
 * How fast llama.cpp reads a prompt and writes what follows it with the model of a GGUF file, on one thread, by its own
 * clock. A short pass comes before: the browser compiles functions that are called often, and the tokenizer's tokens a
 * word are found. Of several passes the fastest counts for each of the two, because other work of the machine can only
 * slow a pass down. Null where it was stopped. The module and its memory are gone afterwards.
 */
export function paceOf(files: Blob[], context: number, signal: AbortSignal): Promise<Pace | null> {
  return loaded(files, context, signal, async llama => {
    const { prompt, generated } = lengthsFor(context)
    const warm = await pass(llama, WARM, 8)
    const words = Math.max(1, Math.floor((WARM * prompt) / warm.promptTokens))
    const evenHeads = hasEvenHeads(llama.getModelMetadata().meta)
    const start = performance.now()
    let best = await pass(llama, words, generated)
    while (performance.now() - start < ENOUGH_MS) {
      const again = await pass(llama, words, generated)
      best = {
        ...best,
        prompt: Math.max(best.prompt, again.prompt),
        generation: Math.max(best.generation, again.generation),
      }
    }
    return { ...best, evenHeads }
  })
}

/** Reads so many words, of which nothing is remembered, and writes so many tokens after them, whatever they are. */
async function pass(llama: Wllama, words: number, tokens: number): Promise<Omit<Pace, 'evenHeads'>> {
  const prompt = Array.from({ length: words }, (_, i) => WORDS[(i * 7) % WORDS.length]!).join(' ')
  const asked = { prompt, max_tokens: tokens, temperature: 0, seed: 1, ignore_eos: true, cache_prompt: false }
  const { timings } = await llama.createCompletion(asked)
  if (
    !timings ||
    !(timings.prompt_n > 0 && timings.prompt_ms > 0 && timings.predicted_n > 1 && timings.predicted_ms > 0)
  )
    throw new Error('it gave no times')
  // The first token comes with the prompt; the time is that of the others.
  return {
    prompt: (1000 * timings.prompt_n) / timings.prompt_ms,
    generation: (1000 * (timings.predicted_n - 1)) / timings.predicted_ms,
    promptTokens: timings.prompt_n,
  }
}

/** Does `work` with the model of a GGUF file in a module of its own, which is gone afterwards; null where it was stopped. */
async function loaded<T>(
  files: Blob[],
  context: number,
  signal: AbortSignal,
  work: (llama: Wllama) => Promise<T>,
): Promise<T | null> {
  const quiet = { ...LoggerWithoutDebug, log: () => {}, warn: () => {}, error: () => {} }
  const llama = new Wllama({ default: wasm }, { logger: quiet, suppressNativeLog: true })
  const stopped = new Promise<null>(resolve => {
    if (signal.aborted) resolve(null)
    signal.addEventListener('abort', () => resolve(null), { once: true })
  })
  const done = async () => {
    await llama.loadModel(files, { n_ctx: context, n_threads: 1, n_gpu_layers: 0, n_parallel: 1 })
    return work(llama)
  }
  try {
    return await Promise.race([done(), stopped])
  } catch (thrown) {
    if (signal.aborted) return null
    throw new Failure(
      'unsupported',
      `llama.cpp did not run the model (${thrown instanceof Error ? thrown.message : String(thrown)}).`,
    )
  } finally {
    await llama.exit().catch(() => {})
  }
}

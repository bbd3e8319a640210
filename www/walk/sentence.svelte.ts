import { CALIBRATION } from '../app/defaults'
import { NOT_STARTED, type State } from '../app/state.svelte'
import type { EngineClient } from '../engine/client'
import { Failure, saying } from '../engine/errors'
import { newEngine } from '../engine/spawn'
import { located, PLACED_BY, scaledDistance, scalingOf, strayOf } from './locate'
import { TEXT_TOKENS, textWith } from './opening'
import type { StoredDemo } from './stored'

/** A sentence that the engine has read with the walk's texts. */
export interface OwnText {
  text: string
  tokens: number
  /** The last token's stream after each layer, as `StoredDemo.points` has it. */
  points: Float64Array[]
}

/** Whether this browser can run an engine, as far as the page knows. */
export const canRead = ({ features, loading }: State): boolean => features?.wasmSimd === true && loading !== NOT_STARTED

/** The longest sentence that is counted, in characters; one of `TEXT_TOKENS` tokens is far shorter. */
export const MOST_CHARACTERS = 400

/** Distances that the engine computes for the stored texts are those of the stored points, but for this share. */
const MOST_STRAY = 0.01

/**
 * A sentence of one's own among the texts of the walk. The demo runs in an engine of the walk's own, so that the model
 * and the results of the page below stay as they are. The engine starts with the first sentence, and ends with the walk.
 */
export class Sentence {
  /** What stands in the box. */
  draft = $state('')
  reading = $state(false)
  /** Why the sentence in the box cannot be shown, in one sentence. */
  problem = $state('')
  own = $state.raw<OwnText | null>(null)
  #engine: EngineClient | null = null
  #stories = ''

  constructor(
    readonly stored: StoredDemo,
    private readonly start: () => EngineClient = newEngine,
  ) {}

  /** Has the engine read what stands in the box. A sentence that cannot be read leaves the one before. */
  async show(): Promise<void> {
    if (this.reading) return
    this.reading = true
    this.problem = ''
    try {
      this.own = await this.#read(this.draft.trim().replace(/\s+/g, ' '))
    } catch (thrown) {
      this.problem = saying(thrown)
    } finally {
      this.reading = false
    }
  }

  clear(): void {
    this.own = null
    this.draft = this.problem = ''
  }

  /** Ends the engine; another sentence starts another one. */
  end(): void {
    this.#engine?.restart()
    this.#engine = null
  }

  async #read(text: string): Promise<OwnText> {
    if (text === '') throw new Failure('usage', 'Type a sentence first.')
    if (text.length > MOST_CHARACTERS)
      throw new Failure('usage', `Your sentence has ${text.length} characters; shorten it to ${MOST_CHARACTERS}.`)
    const engine = await this.#opened()
    const texts = this.stored.texts.slice(0, PLACED_BY)
    const points = this.stored.points.map(layer => layer.slice(0, PLACED_BY))
    // Each sequence of two holds the token that begins a text and one token of the sentence.
    const { sequences: tokens } = await engine.call(null, 'estimate', [
      { ...CALIBRATION, text, tokens: 2, samples: 8 * MOST_CHARACTERS },
    ])
    if (tokens > TEXT_TOKENS)
      throw new Failure(
        'usage',
        `Your sentence has ${tokens} tokens, and the texts here have ${TEXT_TOKENS}; shorten it a little.`,
      )
    const options = scalingOf(textWith(text, tokens, this.#stories), texts.length + 1, points[0]![0]!.length)
    const report = await engine.call(null, 'similarity', [options])
    const [, ...others] = report.point_list
    const isSame = others.length === texts.length && others.every((point, i) => point.text === texts[i])
    if (!isSame || report.embedding.some((map, layer) => strayOf(map.slice(1), points[layer]!) > MOST_STRAY))
      throw new Failure(
        'internal',
        'The engine does not find the texts of the walk as they are stored, so your sentence cannot be placed among them; reload the page',
      )
    return {
      text,
      tokens,
      points: report.embedding.map(([own, ...map], layer) =>
        located(
          points[layer]!,
          map.map(other => scaledDistance(own!, other)),
        ),
      ),
    }
  }

  async #opened(): Promise<EngineClient> {
    if (this.#engine) return this.#engine
    const engine = this.start()
    try {
      await engine.call(null, 'create', ['cpu'])
      await engine.call(null, 'openDemo', [])
      this.#stories = (await engine.call(null, 'builtinText', [])).text
      return (this.#engine = engine)
    } catch (thrown) {
      engine.restart()
      throw thrown
    }
  }
}

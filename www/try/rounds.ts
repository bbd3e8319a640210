/** In which order models are timed, and what of it counts: pure functions. */

/** How fast one model reads and writes, in tokens a second. */
export interface Pace {
  prompt: number
  generation: number
  /** Tokens that the prompt had. */
  promptTokens: number
  /** Whether all of its attention layers have keys and values of the same number and width. */
  evenHeads: boolean
}

/** Tokens of a prompt, and tokens that are written after it, where the model's context has room for them. */
export const [PROMPT, GENERATED] = [256, 64]
export const ROUNDS = 3
/** Room for both, and for a prompt that becomes some tokens longer than was meant. */
export const CONTEXT = 512

/** The lengths that fit into a context, with a tenth of it to spare. */
export function lengthsFor(context: number): { prompt: number; generated: number } {
  const generated = Math.min(GENERATED, Math.floor(context / 4))
  return { prompt: Math.min(PROMPT, Math.floor(0.9 * context) - generated), generated }
}

/** What counts of several rounds. */
export interface Timing extends Pace {
  /** Share by which the second fastest round is slower than the fastest, in reading or in writing, whichever is more; 0 after a single round. */
  noise: number
}

/**
 * Times every model once in each round, so that a busy moment of the machine hits all alike; every other round goes
 * backwards, so that no model is always the first. `told` hears after each whole round what is known so far. A model
 * for which `time` gives null, because it was stopped, ends it; rounds that were whole stand.
 */
export async function inRounds<T>(
  models: readonly T[],
  rounds: number,
  time: (model: T, run: { round: number; done: number; total: number }) => Promise<Pace | null>,
  told: (timings: Timing[], rounds: number) => void,
): Promise<void> {
  const paces: Pace[][] = models.map(() => [])
  for (let round = 0; round < rounds; round++) {
    const places = models.map((_, place) => place)
    for (const [i, place] of (round % 2 === 0 ? places : places.toReversed()).entries()) {
      const pace = await time(models[place]!, { round, done: round * models.length + i, total: rounds * models.length })
      if (pace === null) return
      paces[place]!.push(pace)
    }
    told(paces.map(fastest), round + 1)
  }
}

/** The fastest round, for prompt and generation apart, because other work of the machine can only slow a model down. */
function fastest(paces: readonly Pace[]): Timing {
  const sorted = (of: 'prompt' | 'generation') => paces.map(pace => pace[of]).sort((a, b) => b - a)
  const [prompts, generations] = [sorted('prompt'), sorted('generation')]
  const gap = ([first = 0, second = first]: readonly number[]) => (first > 0 ? 1 - second / first : 0)
  return {
    ...paces[0]!,
    prompt: prompts[0]!,
    generation: generations[0]!,
    noise: Math.max(gap(prompts), gap(generations)),
  }
}

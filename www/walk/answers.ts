/** What a class is asked on the way, with the answers: read off the demo's stored numbers, as the steps are. */
import { nats, percent, perplexity, similarity } from '../ui/format'
import type { ScreenId } from '../words/screens'
import { Geometry, MEDIAN } from './geometry'
import { groupsGuessed, plantedBy } from './guess'
import { mergeOf, mostAlikeOfKinds, storedKinds } from './kinds'
import { spread, variation } from './operator'
import { rowOf, sum } from './square'
import type { StoredDemo } from './stored'
import { growthOf, idleLayers, LITTLE } from './stream'

export interface Answer {
  screen: ScreenId
  question: string
  answer: string
  why: string
}

/** The questions, which need no numbers to be asked. */
export const QUESTIONS = {
  stream: 'Which layers would nobody miss?',
  tokens: 'Move the layer from 0 to 11: at which layers does nothing move?',
  kernel: 'The bandwidth is halved twice: what becomes of the neighbours of the first text?',
  walk: 'How many steps does the walk need to forget where it began?',
  'two-maps': 'Which layer draws the map of layer 4 again: 5 or 7?',
  cell: 'How alike are a layer and itself, and why?',
  merge: 'Which two layers become one first, and why these?',
  kinds: 'Which two layers of the Jamba are most alike, and can they be averaged?',
  cost: 'How many layers can go before the model breaks?',
  fit: 'Seven layers go: which way stays closest to the original?',
  guess: 'Which layers were planted?',
} as const satisfies Partial<Record<ScreenId, string>>

/** The question of a step; null where there is none. */
export function questionOf(screen: ScreenId): string | null {
  return (QUESTIONS as Partial<Record<ScreenId, string>>)[screen] ?? null
}

/** The layer and the text that the walk begins with. */
const [LAYER, TEXT] = [4, 7]

export function answersOf(demo: StoredDemo): Answer[] {
  const growth = growthOf(demo)
  const idle = idleLayers(growth)
  const shares = growth.layers.map(({ share }) => share)
  const working = shares.filter(share => share >= LITTLE)
  const planted = plantedBy(demo.blockInfluence)
  const turns = demo.blockInfluence
  const geometry = new Geometry(demo.points)
  const weight = (bandwidth: number) => sum(rowOf(geometry.graph(LAYER, bandwidth).w, TEXT)) - 1
  const [merge] = demo.merges
  const jamba = storedKinds[0]!
  const alike = mostAlikeOfKinds(jamba, false)!
  const last = demo.merges[planted.length]!
  const fit = demo.fits.models[planted.length - 1]!
  const answers = {
    stream: [
      listed(idle),
      `Each of them adds ${share(Math.max(...idle.map(layer => shares[layer]!)))} of what it gets at most; each of the others adds ${percent(Math.min(...working))} or more.`,
    ],
    tokens: [
      listed(planted),
      `They turn the list by less than a thousandth (1 minus the cosine), all others by ${Math.min(...turns.filter((_, layer) => !planted.includes(layer))).toFixed(2)} or more.`,
    ],
    kernel: [
      'Most fade away.',
      `Together the others weigh ${weight(MEDIAN).toFixed(1)} with the median and ${weight(MEDIAN - 4).toFixed(1)} with a quarter of it, because weights fall exponentially with the distance over the bandwidth.`,
    ],
    walk: [
      `${stepsToForget(geometry)} steps, with the median as bandwidth.`,
      `Then its chances are less than a hundredth away from those of a long walk. All chances instead of one walker shows it.`,
    ],
    'two-maps': [
      'Layer 5.',
      `Layer 5 was planted after 4: the similarity of 4 and 5 is ${similarity(demo.similarity[5]![4]!)}, that of 4 and 7 is ${similarity(demo.similarity[7]![4]!)}.`,
    ],
    cell: [
      '1: fully.',
      'What two layers share is divided by what each shares with itself, and here these are the same.',
    ],
    merge: [
      `Layers ${listed(merge!.merged.flat())}`,
      `Their similarity, ${similarity(merge!.alpha)}, is the highest of all neighbours.`,
    ],
    kinds: [
      `Layers ${listed([...alike].sort((a, b) => a - b))}`,
      mergeOf(jamba.kinds[alike[0]]!, jamba.kinds[alike[1]]!),
    ],
    cost: [
      `${planted.length}.`,
      `The perplexity goes from ${perplexity(demo.perplexity)} to ${perplexity(demo.merges[planted.length - 1]!.perplexity)}; one layer more, which does work, makes it ${perplexity(last.perplexity)}.`,
    ],
    fit: [
      'Pooled and refitted.',
      `Its KL is ${nats(fit.refitted.kl)}; dropped layers have ${nats(fit.dropped.kl)}, averaged ones ${nats(fit.averaged.kl)}.`,
    ],
    guess: [
      listed(planted),
      `Each light block is one layer that works and the planted ones behind it: ${groupsGuessed(planted, demo.layers)
        .map(group => `[${group.join(' ')}]`)
        .join(' ')}.`,
    ],
  } satisfies Record<keyof typeof QUESTIONS, [answer: string, why: string]>
  return (Object.keys(QUESTIONS) as (keyof typeof QUESTIONS)[]).map(screen => {
    const [answer, why] = answers[screen]
    return { screen, question: QUESTIONS[screen], answer, why }
  })
}

/** Steps until the chances of a walk from the first text are those of a long walk, to a hundredth. */
function stepsToForget(geometry: Geometry): number {
  const { p, longRun } = geometry.graph(LAYER, MEDIAN)
  let chances = Float64Array.from({ length: p.n }, (_, text) => Number(text === TEXT))
  let steps = 0
  for (; variation(chances, longRun) > 0.01 && steps < 1000; steps++) chances = Float64Array.from(spread(p, chances))
  return steps
}

const share = (value: number) => `${(100 * value).toFixed(1)} %`

/** "2, 3 and 5." */
function listed(numbers: readonly number[]): string {
  return `${numbers.slice(0, -1).join(', ')}${numbers.length > 1 ? ' and ' : ''}${numbers.at(-1)}.`
}

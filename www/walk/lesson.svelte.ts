import { ranks } from '../charts/scatter'
import type { CostMeasure } from './cost'
import { Geometry, MEDIAN, type Graph } from './geometry'
import { information, meanNats, standardised, type PlaneMap } from './information'
import type { PairAt } from './kinds'
import { diffusionMap } from './map'
import { Sentence, type OwnText } from './sentence.svelte'
import type { StoredDemo } from './stored'

/** The two texts that the walk begins with. */
const [ONE, TWO] = [7, 4]

/** What is chosen on the way; it stays from screen to screen, so that one example runs through all. */
export class Lesson {
  /** The two texts. */
  one = $state(ONE)
  two = $state(TWO)
  /** The layer that is looked at, on the left where there are two. */
  layer = $state(4)
  other = $state(7)
  bandwidth = $state(MEDIAN)
  time = $state(1)
  /** `k` of the estimator. */
  neighbours = $state(5)
  /** The merge that is looked at, 1 and up; the second is the first of a layer that works with planted ones. */
  merge = $state(2)
  /** Merges whose cost is read. */
  removed = $state(7)
  /** Layers removed where averaging, dropping and refitting are compared. */
  fitted = $state(7)
  /** An eigenvector; or, at 0, one of the model's own numbers, which is none. */
  pattern = $state(1)
  /** Steps of the walk that a pattern is given. */
  steps = $state(1)
  /** The weight of the first layer in a merge; null follows the similarity. */
  alpha = $state<number | null>(null)
  /** What merges cost is read by. */
  measure = $state<CostMeasure>('perplexity')
  /** Whether the numbers of a text are divided by their root mean square. */
  divided = $state(true)
  /** Whether the right one of two maps is turned onto the left. */
  turned = $state(true)
  /** Whether all chances of the random walk are shown instead of one walker. */
  all = $state(false)
  /** Whether the self-test shows maps instead of squares. */
  maps = $state(false)
  guess = $state.raw<number[]>([])
  /** The pair of layers that is looked at in one of the two small models; null for the first that is offered. */
  kinds = $state.raw<PairAt | null>(null)

  readonly sentence: Sentence

  constructor(readonly stored: StoredDemo) {
    this.sentence = new Sentence(stored)
  }

  /** What is stored, and the reader's own sentence as one more text. */
  readonly demo = $derived.by(() => withText(this.stored, this.sentence.own))
  readonly geometry = $derived.by(() => new Geometry(this.demo.points))
  /** The place of the reader's own sentence among the texts; null while there is none. */
  readonly own = $derived.by(() => (this.sentence.own ? this.stored.texts.length : null))
  readonly here = $derived.by(() => this.geometry.layer(this.layer))
  readonly graph = $derived.by(() => this.graphAt(this.layer))
  /** Texts keep a colour for as long as the layer does: their order along the first coordinate. */
  readonly colours = $derived.by(() => this.coloursOf(this.layer))

  graphAt(layer: number, bandwidth = this.bandwidth): Graph {
    return this.geometry.graph(layer, bandwidth)
  }

  mapAt(layer: number, time = this.time): [Float64Array, Float64Array] {
    return diffusionMap(this.graphAt(layer).eigen, time)
  }

  /** As the estimator takes it. */
  standardAt(layer: number): PlaneMap {
    return standardised(this.mapAt(layer, 1))
  }

  /** In nats, of the maps with the bandwidth that is chosen. */
  sharedBy(left: number, right: number): number {
    return meanNats(information(this.standardAt(left), this.standardAt(right), this.neighbours))
  }

  coloursOf(layer: number): number[] {
    return ranks(Array.from(diffusionMap(this.graphAt(layer, MEDIAN).eigen, 1)[0]))
  }

  clearOwn(): void {
    if (this.one === this.own) this.one = ONE
    if (this.two === this.own) this.two = TWO
    this.sentence.clear()
  }

  text(index: number): string {
    return this.demo.texts[index]!.replace(/^…\s*/, '')
  }
}

function withText(stored: StoredDemo, own: OwnText | null): StoredDemo {
  if (!own) return stored
  return {
    ...stored,
    texts: [...stored.texts, `… ${own.text}`],
    points: stored.points.map((layer, l) => [...layer, own.points[l]!]),
  }
}

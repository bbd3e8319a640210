import { saying } from '../engine/errors'
import type { LayerMap } from '../engine/protocol/engine'
import type { MapOptions } from '../engine/protocol/maps'
import type { SimilarityReport } from '../engine/protocol/similarity'
import { mapsOf, parametersOf, sameParameters, type Parameters } from './maps'

/** Layers asked for at once: a new place of the slider waits for no more than these, 5 ms each. */
const AT_ONCE = 4
/** A hand that has rested so long has let go: maps are made again in full. */
const REST_MS = 250
/** Eigenvalues shown of the enlarged layer, lambda_0 included. */
export const SPECTRUM = 12

type Quality = 'stale' | 'sketched' | 'exact'
interface Step {
  layers: number[]
  sketch: boolean
  eigenvalues?: number
}

/**
 * The maps on the page, made again by the engine as parameters change: the enlarged layer first, then the
 * others in turn, each with the newest parameters, so that all keep moving while a slider is dragged. Sketches
 * while it moves, in full once it rests. With the run's own parameters the maps are the run's.
 */
export class Atlas {
  maps = $state.raw<readonly LayerMap[]>([])
  /** Per layer, how well its map fits the parameters. */
  quality = $state.raw<readonly Quality[]>([])
  /** Why the engine cannot make other maps; empty while it can. */
  problem = $state('')

  readonly run: Parameters
  /** As the comparison left them. */
  readonly ofRun: readonly LayerMap[]
  private parameters: Parameters
  private enlarged = 0
  /** Place of the next layer in the round. */
  private round = 0
  /** A slider that moves with every answer must not keep the others waiting. */
  private othersNext = false
  private touched = 0
  private working = false

  constructor(
    report: SimilarityReport,
    private readonly call: (options: MapOptions) => Promise<LayerMap[]>,
    /** Whether the engine is at something else, which it does not interrupt. */
    private readonly busy: () => boolean,
    private readonly restMs = REST_MS,
  ) {
    this.run = this.parameters = parametersOf(report)
    this.ofRun = this.maps = mapsOf(report)
    this.quality = this.maps.map(() => 'exact')
  }

  /** What is to be shown from now on. */
  show(parameters: Parameters, enlarged: number): void {
    if (!sameParameters(parameters, this.parameters)) {
      this.parameters = { ...parameters }
      this.touched = performance.now()
      const isRun = sameParameters(parameters, this.run)
      if (isRun) this.maps = this.ofRun
      this.quality = this.maps.map(() => (isRun ? 'exact' : 'stale'))
    }
    if (enlarged !== this.enlarged) {
      this.enlarged = enlarged
      this.touched = performance.now()
    }
    if (!this.working) void this.work()
  }

  private async work(): Promise<void> {
    this.working = true
    try {
      for (let step = this.next(); step && !this.busy(); step = this.next()) {
        const rest = this.touched + this.restMs - performance.now()
        if (!step.sketch && rest > 0) await new Promise(resolve => setTimeout(resolve, rest))
        else await this.take(step)
      }
    } catch (thrown) {
      this.problem = saying(thrown)
    } finally {
      this.working = false
    }
  }

  private async take({ layers, sketch, eigenvalues }: Step): Promise<void> {
    const { parameters } = this
    const made = await this.call({ ...parameters, layers, sketch, ...(eigenvalues ? { eigenvalues } : {}) })
    const isRun = sameParameters(this.parameters, this.run)
    // A picture that is late is still the newest there is, but the run's own are there already.
    if (isRun && parameters !== this.parameters) return
    const maps = [...this.maps]
    const quality = [...this.quality]
    for (const map of made) {
      const ofRun = this.ofRun[map.layer]
      maps[map.layer] = isRun && ofRun ? { ...ofRun, eigenvalues: map.eigenvalues } : map
      if (parameters === this.parameters) quality[map.layer] = sketch ? 'sketched' : 'exact'
    }
    this.maps = maps
    this.quality = quality
    this.problem = ''
  }

  private next(): Step | null {
    const { quality, enlarged } = this
    const n = quality.length
    if (n === 0) return null
    const inRound = Array.from({ length: n }, (_, i) => (this.round + i) % n)
    const others = inRound.filter(layer => layer !== enlarged && quality[layer] === 'stale').slice(0, AT_ONCE)
    if (quality[enlarged] === 'stale' && !(this.othersNext && others.length > 0)) {
      this.othersNext = true
      return { layers: [enlarged], sketch: true }
    }
    this.othersNext = false
    if (others.length > 0) {
      this.round = others.at(-1)! + 1
      return { layers: others, sketch: true }
    }
    const points = (this.maps[enlarged]?.coordinates.length ?? 0) / (this.maps[enlarged]?.dims || 1)
    if (
      quality[enlarged] === 'sketched' ||
      (this.maps[enlarged]?.eigenvalues.length ?? n) < Math.min(SPECTRUM, points)
    ) {
      return { layers: [enlarged], sketch: false, eigenvalues: SPECTRUM }
    }
    const sketched = quality.indexOf('sketched')
    return sketched < 0 ? null : { layers: [sketched], sketch: false }
  }
}

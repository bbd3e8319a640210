import demo from '../../../www/walk/demo-result.json'
import type { CompareOptions, CompareReport } from '../../../www/engine/protocol/compare'
import type { DevicePreference, DeviceReport } from '../../../www/engine/protocol/device'
import type { LayerMap, Observe, WasmEngine } from '../../../www/engine/protocol/engine'
import type { Estimate, PlanEstimate } from '../../../www/engine/protocol/estimate'
import type { ByteSource, OutputFolder, PartStore } from '../../../www/engine/protocol/files'
import type { HealOptions } from '../../../www/engine/protocol/heal'
import type { UsedImatrix } from '../../../www/engine/protocol/imatrix'
import type { MapOptions } from '../../../www/engine/protocol/maps'
import type { NamedMethod } from '../../../www/engine/protocol/method'
import type { ModelReport } from '../../../www/engine/protocol/model'
import type { WriteOptions, WriteReport } from '../../../www/engine/protocol/output'
import type { MergePlan, PlanOptions, PlanReport } from '../../../www/engine/protocol/plan'
import type { CalibrationPoint } from '../../../www/engine/protocol/quality'
import type {
  CalibrationOptions,
  Metric,
  MetricReport,
  SimilarityReport,
} from '../../../www/engine/protocol/similarity'
import type { SizeRange, SizeReport } from '../../../www/engine/protocol/sizing'
import type { TextOptions } from '../../../www/engine/protocol/text'
import { isFitted } from '../../../www/words/methods'
import { isQuantised } from '../../../www/words/types'
import { compareOf } from './compare'
import { curveOf } from './curve'
import { healOf } from './heal'
import { CALIBRATION } from '../../../www/app/defaults'
import { mapOf } from './maps'
import { imatrixBytes, imatrixFrom } from './imatrix'
import { METHODS } from './methods'
import { modelFrom } from './model'
import { byMetric } from './metric'
import { measureOf, planOf } from './plan'
import { bestOf, rangeOf } from './sizing'
import { fail, tell, wait } from './tell'
import { filesOf, writeFiles } from './written'

const stored = demo as unknown as SimilarityReport

/**
 * An engine that computes nothing: the demo answers with stored numbers, another model with plausible
 * ones. A run takes time in proportion to the tokens asked for, so that progress and cancel can be seen.
 * A text that begins with "device lost", "panic" or "hang" makes the run end that way.
 */
export class MockEngine implements WasmEngine {
  private model: ModelReport | null = null
  private maps: SimilarityReport | null = null
  private files: ByteSource[] = []
  private imatrix: UsedImatrix | null = null

  constructor(private readonly preference: DevicePreference) {}

  device(): DeviceReport {
    if (this.preference === 'cpu')
      return { kind: 'cpu', name: 'CPU (wasm SIMD)', reason: 'The CPU was asked for.', max_binding_bytes: 0 }
    return {
      kind: 'software-gpu',
      name: 'SwiftShader',
      reason: 'WebGPU offers only a software adapter.',
      max_binding_bytes: 2 ** 30,
    }
  }

  spillTo(): void {}

  async openDemo(): Promise<ModelReport> {
    this.maps = this.imatrix = null
    return (this.model = stored.model)
  }

  async open(files: ByteSource[], name?: string): Promise<ModelReport> {
    this.model = this.maps = this.imatrix = null
    this.files = files
    return (this.model = await modelFrom(files, name))
  }

  async estimate(options: CalibrationOptions): Promise<Estimate> {
    const model = this.opened()
    const tokens = options.samples * options.tokens
    const state = tokens * model.hidden_size * 4
    const flop = 2 * tokens * model.parameters_per_layer * model.layers
    return {
      peak_bytes: 2 * model.bytes_per_layer + 3 * state,
      layer_bytes: model.bytes_per_layer,
      state_bytes: state,
      checkpoint_bytes: state + 4 * options.samples * model.hidden_size * model.layers,
      flop,
      seconds: (msPerLayer(options) * model.layers) / 1000,
      sequences: options.samples,
      tokens,
    }
  }

  /** A pass for importances where a quantised type would be encoded by those that are collected. */
  async estimatePlan(
    calibration: CalibrationOptions,
    { operator, remove }: PlanOptions,
    output: WriteOptions,
  ): Promise<PlanEstimate> {
    const { seconds, peak_bytes } = await this.estimate(calibration)
    const pass = isQuantised(output.dtype) && output.importances !== false && !this.imatrix ? seconds : 0
    return isFitted(operator)
      ? { seconds: 2 * seconds * (1 + (remove ?? 6)) + pass, peak_bytes: 4 * peak_bytes }
      : { seconds: seconds * (remove ?? 6) + pass, peak_bytes }
  }

  async estimateCompare(
    calibration: CalibrationOptions,
    { methods, remove, dtypes = ['keep'] }: CompareOptions,
  ): Promise<PlanEstimate> {
    const { seconds, peak_bytes } = await this.estimate(calibration)
    return { seconds: seconds * methods.length * remove.length * dtypes.length, peak_bytes: 2 * peak_bytes }
  }

  useImatrix(name: string, bytes: Uint8Array): UsedImatrix {
    this.opened()
    return (this.imatrix = imatrixFrom(name, bytes))
  }

  forgetImatrix(): void {
    this.imatrix = null
  }

  async imatrixOf(plan: MergePlan): Promise<Uint8Array> {
    if (!this.maps) fail('usage', 'Compare the layers first; importances are collected on their text.')
    await wait(20)
    return imatrixBytes('mock.txt', plan.groups.length)
  }

  async sequencesWithin(
    seconds: number,
    calibration: CalibrationOptions,
    plan: PlanOptions,
    output: WriteOptions,
  ): Promise<number> {
    const takes = async (samples: number) =>
      (await this.estimate({ ...calibration, samples })).seconds +
      (await this.estimatePlan({ ...calibration, samples }, plan, output)).seconds
    return Math.min(128, Math.max(24, Math.floor(seconds / (await takes(1)))))
  }

  async similarity(options: CalibrationOptions, observe: Observe, kept?: PartStore): Promise<SimilarityReport> {
    const model = this.opened()
    await this.misbehave(options.text)
    if (options.text !== null && options.text.length < 200)
      fail(
        'limit',
        `The text "${options.text_name}" gives 1 sequence and at least 20 are needed. Add text, or ask for fewer tokens a sequence.`,
      )
    if (options.samples < 4 * options.neighbours)
      fail(
        'usage',
        `${options.samples} points are too few for ${options.neighbours} neighbours: at least ${4 * options.neighbours} are needed.`,
      )
    const n = model.layers
    // What was captured is compared anew without a run.
    if (
      this.maps &&
      this.maps.options.metric !== options.metric &&
      JSON.stringify({ ...this.maps.options, metric: options.metric }) === JSON.stringify(options)
    ) {
      return (this.maps = { ...this.maps, options, ...this.compared(options.metric), seconds: 0.01 })
    }
    const full = { ...(n === stored.layers ? stored : { ...stored, ...invented(n) }) }
    Object.assign(full, byMetric(full, options.metric))
    const from = await keptLayers(kept)
    if (from > 0) await tell(observe, { kept: { layers: from, bytes: 0, trouble: null } })
    for (let layer = 0; layer < n; layer++) {
      if (layer >= from)
        for (let part = 1; part <= 4; part++) {
          await wait(msPerLayer(options) / 4)
          await tell(observe, {
            progress: {
              stage: 'capture',
              done: layer + part / 4,
              total: n,
              unit: 'layers',
              detail: `layer ${layer + 1} of ${n}`,
            },
          })
        }
      const row = (full.similarity[layer] ?? []).slice(0, layer + 1)
      await tell(observe, {
        layer: {
          layer,
          layers: n,
          row,
          epsilon: full.epsilon[layer]!,
          eigenvalues: full.eigenvalues[layer]!,
          embedding: full.embedding[layer]!,
        },
      })
      if (kept && layer >= from) await keep(kept, layer, observe)
      if (layer === 4) this.loseOnce(options.text)
    }
    const text = options.text === null ? stored.text : { ...stored.text, name: options.text_name ?? 'your text' }
    this.maps = {
      ...full,
      model,
      layers: n,
      options,
      metric: options.metric,
      text,
      device: this.device(),
      seconds: (msPerLayer(options) * n) / 1000,
      peak_memory_bytes: 42_500_000,
    }
    return this.maps
  }

  mapLayers(options: MapOptions): LayerMap[] {
    const maps = this.maps ?? fail('usage', 'Compare the layers first; other maps are made from what that leaves.')
    return options.layers.map(layer => mapOf(maps, layer, options))
  }

  async similarityBy(metric: Metric): Promise<MetricReport> {
    if (!this.maps) fail('usage', 'Compare the layers first; there is nothing captured yet.')
    return this.compared(metric)
  }

  private compared(metric: Metric): MetricReport {
    const n = this.opened().layers
    return byMetric(n === stored.layers ? stored : { ...stored, ...invented(n) }, metric)
  }

  async measure(plan: MergePlan, observe: Observe, output: WriteOptions, judge: TextOptions): Promise<PlanReport> {
    if (!this.maps) fail('usage', 'Compare the layers first; a plan is measured on their text.')
    return this.encoded(await measureOf(this.maps, plan, observe, this.device(), output, judge))
  }

  async checkOutput({ pack }: WriteOptions): Promise<string[]> {
    this.opened()
    if (pack === 'int4-g128')
      fail(
        'usage',
        'tensor model.layers.0.mlp.down_proj.weight cannot be stored as int4-g128, because a row of 172 weights is no whole number of groups; choose another group, f16 or bf16',
      )
    return []
  }

  async plan(options: PlanOptions, observe: Observe, output: WriteOptions, judge: TextOptions): Promise<PlanReport> {
    if (!this.maps) fail('usage', 'Compare the layers first; the plan is made from their similarity.')
    return this.encoded(await planOf(this.maps, options, observe, this.device(), output, judge))
  }

  async sizeRange(): Promise<SizeRange> {
    return rangeOf(this.opened())
  }

  async estimateSize(
    calibration: CalibrationOptions,
    options: PlanOptions,
    output: WriteOptions,
  ): Promise<PlanEstimate> {
    const { seconds, peak_bytes } = await this.estimatePlan(calibration, { ...options, remove: 1 }, output)
    return { seconds: 8 * seconds, peak_bytes }
  }

  async bestOfSize(
    size: number,
    options: PlanOptions,
    observe: Observe,
    output: WriteOptions,
    judge: TextOptions,
  ): Promise<SizeReport> {
    return bestOf(this.opened(), size, (remove, dtype) =>
      this.plan({ ...options, remove }, observe, { ...output, dtype }, judge),
    )
  }

  /** A report says which file values were encoded by. */
  private encoded<T extends { output?: WriteOptions }>(report: T): T {
    const used =
      this.imatrix && report.output?.importances !== false
        ? { imatrix: { name: this.imatrix.name, hash: this.imatrix.hash } }
        : {}
    return { ...report, ...used }
  }

  async heal(
    plan: MergePlan,
    output: WriteOptions,
    options: HealOptions,
    observe: Observe,
    judge: TextOptions,
  ): Promise<PlanReport> {
    if (!this.maps) fail('usage', 'Compare the layers first; a model is healed on their text.')
    const before = await this.measure(plan, async () => false, output, judge)
    return this.encoded(await healOf(before, this.maps.text, options, observe))
  }

  async calibrationCurve(
    plan: MergePlan,
    sizes: number[],
    observe: Observe,
    _output: WriteOptions,
    judge: TextOptions,
  ): Promise<CalibrationPoint[]> {
    if (!this.maps) fail('usage', 'Compare the layers first; a plan is fitted to their text.')
    return curveOf(this.maps, plan, sizes, observe, judge)
  }

  async write(plan: MergePlan, options: WriteOptions, folder: OutputFolder, observe: Observe): Promise<WriteReport> {
    const model = this.opened()
    const started = performance.now()
    const files = filesOf(model, plan, options, await this.openedFile())
    await writeFiles(files, folder, observe)
    const sizes = files.map(([name, bytes]) => ({ name, bytes: bytes.length }))
    return {
      recipe: {
        laminate: 'mock',
        model: model.name,
        calibration: this.maps?.options ?? CALIBRATION,
        text: this.maps?.text ?? { name: 'none', sequences: 0, tokens_per_sequence: 0, tokens_scored: 0 },
        options: null,
        plan,
        output: options,
      },
      files: sizes,
      bytes: { before: model.bytes, after: Math.max(...files.map(([, bytes]) => bytes.length)) },
      seconds: (performance.now() - started) / 1000,
    }
  }

  /** The bytes of the model where it is one small GGUF file that others can read: most tests give a few bytes. */
  private async openedFile(): Promise<Uint8Array | null> {
    const [only, another] = this.files
    return only?.name.endsWith('.gguf') && !another && only.size > 1e4 && only.size < 4e6
      ? (await only.read(0, only.size)).slice()
      : null
  }

  methods(): NamedMethod[] {
    return METHODS
  }

  async compare(options: CompareOptions, observe: Observe): Promise<CompareReport> {
    if (!this.maps) fail('usage', 'Compare the layers first; the methods start from what was seen there.')
    await this.misbehave(options.evaluation.text)
    return this.encoded(await compareOf(this.maps, options, observe, this.device()))
  }

  builtinText(): { name: string; text: string } {
    return { name: stored.text.name, text: stored.point_list.map(point => point.text).join(' ... ') }
  }

  builtinEvaluation(): { name: string; text: string } {
    return {
      name: 'built-in evaluation text',
      text: 'A fox lived at the edge of the wood. Every morning it went down to the river to see who had come to drink, and every evening it told its young what it had seen.',
    }
  }

  /** A device that is lost in the middle, once for each engine that was started on a GPU. */
  private loseOnce(text: string | null): void {
    if (text?.startsWith('lost on a GPU') && this.preference !== 'cpu')
      fail('device', 'The graphics device was lost while layer 4 was computed.')
  }

  private opened(): ModelReport {
    return this.model ?? fail('usage', 'Open a model first.')
  }

  private async misbehave(text: string | null): Promise<void> {
    if (text?.startsWith('device lost'))
      fail('device', 'The graphics device was lost while layer 3 was computed. Run again, or choose the CPU.')
    if (text?.startsWith('panic on a GPU') ? this.preference !== 'cpu' : text?.startsWith('panic'))
      throw new Error('unreachable executed')
    if (text?.startsWith('hang')) await new Promise(() => {})
  }
}

/** The layers that an earlier run kept, by the names that the engine gives its parts. */
async function keptLayers(kept?: PartStore): Promise<number> {
  const names = (await kept?.names()) ?? []
  return Math.max(0, ...names.map(name => Number(/^states-(\d+)$/.exec(name)?.[1] ?? 0)))
}

async function keep(kept: PartStore, layer: number, observe: Observe): Promise<void> {
  const name = (place: number) => `states-${String(place).padStart(4, '0')}`
  try {
    await kept.create(name(layer + 1))
    await kept.write(new Uint8Array(1000))
    await kept.close()
    await kept.remove(name(layer))
    await tell(observe, { kept: { layers: layer + 1, bytes: 1000 * (layer + 1), trouble: null } })
  } catch (thrown) {
    if ((thrown as { kind?: string }).kind === 'cancelled') throw thrown
    await tell(observe, {
      kept: { layers: 0, bytes: 0, trouble: `finished layers are not kept, because ${(thrown as Error).message}` },
    })
  }
}

function msPerLayer(options: CalibrationOptions): number {
  return (options.samples * options.tokens) / 128
}

/** Numbers for a model without stored ones: similarity falls with distance, as it does without redundancy. */
function invented(n: number) {
  const layers = Array.from({ length: n }, (_, layer) => layer)
  return {
    similarity: layers.map(l => layers.map(m => (l === m ? 1 : Number((0.55 / Math.abs(l - m)).toFixed(4))))),
    mutual_information: layers.map(l =>
      layers.map(m => Number((3.36 * (l === m ? 1 : 0.55 / Math.abs(l - m))).toFixed(4))),
    ),
    epsilon: layers.map(l => 104 - l),
    eigenvalues: layers.map(() => stored.eigenvalues[0]!),
    embedding: layers.map(l => stored.embedding[l % stored.layers]!),
    block_influence: [],
  }
}

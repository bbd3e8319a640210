import { PLAN } from '../../../www/defaults'
import type { DeviceReport, MergePlan, MergeStep, Observe, PlanOptions, PlanReport, Quality, SimilarityReport, WriteOptions } from '../../../www/engine/protocol'
import { fail, tell, wait } from './tell'

/** The merge run stored with the golden numbers: layers merged, alpha, perplexity after it. */
const GOLDEN: [l: number, alpha: number, perplexity: number][] = [
  [2, 0.9312, 6.7661], [6, 0.9291, 6.7904], [1, 0.929, 6.8339], [5, 0.923, 6.8914],
  [6, 0.9294, 6.9121], [2, 0.9192, 6.9638], [2, 0.917, 7.0551], [1, 0.5066, 46.1353],
]

export async function planOf(maps: SimilarityReport, options: PlanOptions, observe: Observe, device: DeviceReport, output: WriteOptions): Promise<PlanReport> {
  const { model } = maps
  const wanted = options.remove ?? model.layers - 1
  if (wanted >= model.layers) fail('usage', `${wanted} of ${model.layers} layers cannot be removed; at least one must stay. Ask for ${model.layers - 1} or fewer.`)
  const plan: MergePlan = {
    n_layers: model.layers, operator: options.operator, steps: [], groups: Array.from({ length: model.layers }, (_, l) => [l]),
    weights: Array.from({ length: model.layers }, () => [1]),
  }
  const planted = model.layers === 12 && options.selection !== 'hand'
  for (let k = 0; k < wanted; k++) {
    const absorbed = options.absorb[k]
    const byHand = (layer: number): [number, number, number] => [
      plan.groups.findIndex(group => group.includes(layer)) - 1, maps.similarity[layer]![layer - 1]!, maps.perplexity * 1.01 ** (k + 1),
    ]
    const [l, alpha, perplexity] = options.selection === 'hand' && absorbed !== undefined ? byHand(absorbed)
      : (planted && GOLDEN[k]) || [plan.groups.length - 2, 0.55 - k * 0.05, maps.perplexity * 8 ** (k + 1)]
    if (options.min_similarity !== null && alpha < options.min_similarity) break
    await wait(60)
    const used = typeof options.alpha === 'number' ? options.alpha : alpha
    const step = merge(plan, l, used, alpha, perplexity, maps)
    await tell(observe, { step })
    await tell(observe, { progress: { stage: 'plan', done: k + 1, total: wanted, unit: 'layers', detail: `merge ${k + 1} of ${wanted}` } })
  }
  const last = plan.steps.at(-1)
  const removed = plan.steps.length
  return {
    plan, text: maps.text,
    original: { perplexity: maps.perplexity, kl: null, top1_agreement: null, collapsed: false },
    merged: qualityOf(last?.perplexity ?? maps.perplexity, maps.perplexity), dropped: droppedAfter(removed, maps), output,
    warnings: removed < wanted && options.remove !== null ? ['No further pair may be merged.'] : [],
    layers: { before: model.layers, after: model.layers - removed },
    parameters: { before: model.parameters, after: model.parameters - removed * model.parameters_per_layer },
    bytes: { before: model.bytes, after: model.bytes - removed * model.bytes_per_layer },
    device, seconds: 0.06 * removed, peak_memory_bytes: 44_100_000,
  }
}

/** A plan that exists already, with numbers after its last step. */
export async function measureOf(maps: SimilarityReport, given: MergePlan, observe: Observe, device: DeviceReport, output: WriteOptions): Promise<PlanReport> {
  const absorb = given.groups.flatMap(group => group.slice(1))
  const options: PlanOptions = { ...PLAN, operator: given.operator, selection: 'hand', absorb, remove: absorb.length }
  const report = await planOf(maps, options, observe, device, output)
  return { ...report, plan: given }
}

function merge(plan: MergePlan, l: number, alpha: number, similarity: number, perplexity: number, maps: SimilarityReport): MergeStep {
  const [a, b] = [plan.groups[l]!, plan.groups[l + 1]!]
  plan.groups.splice(l, 2, [...a, ...b])
  plan.weights.splice(l, 2, [...plan.weights[l]!.map(w => w * alpha), ...plan.weights[l + 1]!.map(w => w * (1 - alpha))])
  const removed = plan.steps.length + 1
  const step = {
    merged: [l, l + 1] as [number, number], groups: [a, b] as [number[], number[]], alpha, similarity, layers: plan.groups.length, perplexity, ...cost(perplexity, maps.perplexity),
    dropped: droppedAfter(removed, maps), bytes: maps.model.bytes - removed * maps.model.bytes_per_layer,
  }
  plan.steps.push(step)
  return step
}

/** Dropping costs a little for each planted layer, and everything after them. */
function droppedAfter(removed: number, { model, perplexity }: SimilarityReport): Quality {
  const factor = model.layers === 12 && removed < 8 ? 1.0017 ** removed : 14
  return qualityOf(perplexity * (removed === 0 ? 1 : factor), perplexity)
}

function qualityOf(perplexity: number, original: number): Quality {
  return { perplexity, ...cost(perplexity, original) }
}

export function cost(perplexity: number, original: number) {
  const kl = Math.max(0, Math.log(perplexity / original) * 1.1)
  return { kl, top1_agreement: 1 / (1 + 1.6 * kl), collapsed: perplexity > 10 * original }
}

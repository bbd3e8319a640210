import { EVALUATION, PLAN } from '../../../www/app/defaults'
import type { DeviceReport } from '../../../www/engine/protocol/device'
import type { Observe } from '../../../www/engine/protocol/engine'
import type { Container } from '../../../www/engine/protocol/model'
import type { NumberType, WriteOptions } from '../../../www/engine/protocol/output'
import type {
  MergePlan,
  MergeStep,
  PlanOptions,
  PlanReport,
  RemovedExperts,
  StoredSize,
} from '../../../www/engine/protocol/plan'
import type { Quality } from '../../../www/engine/protocol/quality'
import type { SimilarityReport } from '../../../www/engine/protocol/similarity'
import type { TextOptions } from '../../../www/engine/protocol/text'
import { isFitted } from '../../../www/words/methods'
import { HELD_OUT, OPERATOR, reportOf } from './compare'
import { fail, tell, wait } from './tell'

/** Layers are fitted once the plan is whole. */
const UNMEASURED: Partial<MergeStep> = {
  perplexity: null,
  kl: null,
  top1_agreement: null,
  collapsed: false,
  dropped: null,
  bytes: null,
}

/** The merge run stored with the golden numbers: layers merged, alpha, perplexity after it. */
const GOLDEN: [l: number, alpha: number, perplexity: number][] = [
  [2, 0.9312, 6.7661],
  [6, 0.9291, 6.7904],
  [1, 0.929, 6.8339],
  [5, 0.923, 6.8914],
  [6, 0.9294, 6.9121],
  [2, 0.9192, 6.9638],
  [2, 0.917, 7.0551],
  [1, 0.5066, 46.1353],
]

export async function planOf(
  maps: SimilarityReport,
  options: PlanOptions,
  observe: Observe,
  device: DeviceReport,
  output: WriteOptions,
  judge: TextOptions = EVALUATION,
): Promise<PlanReport> {
  const { model } = maps
  if (isFitted(options.operator)) checkJudge(judge)
  const wanted = options.remove ?? model.layers - 1
  if (wanted >= model.layers)
    fail(
      'usage',
      `${wanted} of ${model.layers} layers cannot be removed; at least one must stay. Ask for ${model.layers - 1} or fewer.`,
    )
  const plan: MergePlan = {
    n_layers: model.layers,
    operator: options.operator,
    steps: [],
    groups: Array.from({ length: model.layers }, (_, l) => [l]),
    weights: Array.from({ length: model.layers }, () => [1]),
  }
  const planted = model.layers === 12 && options.selection !== 'hand'
  for (let k = 0; k < wanted; k++) {
    const absorbed = options.absorb[k]
    const byHand = (layer: number): [number, number, number] => [
      plan.groups.findIndex(group => group.includes(layer)) - 1,
      maps.similarity[layer]![layer - 1]!,
      maps.perplexity * 1.01 ** (k + 1),
    ]
    const [l, alpha, perplexity] =
      options.selection === 'hand' && absorbed !== undefined
        ? byHand(absorbed)
        : (planted && allowed(GOLDEN[k], plan, options)) || [
            plan.groups.length - 2,
            0.55 - k * 0.05,
            maps.perplexity * 8 ** (k + 1),
          ]
    if (options.min_similarity !== null && alpha < options.min_similarity) break
    await wait(60)
    const used = isFitted(options.operator) ? 1 : typeof options.alpha === 'number' ? options.alpha : alpha
    const step = merge(plan, l, used, alpha, perplexity, maps)
    if (isFitted(options.operator)) Object.assign(step, UNMEASURED)
    await tell(observe, { step })
    await tell(observe, {
      progress: { stage: 'plan', done: k + 1, total: wanted, unit: 'layers', detail: `merge ${k + 1} of ${wanted}` },
    })
  }
  const removed = plan.steps.length
  const experts = withoutExperts(plan, model, options)
  const judged = isFitted(options.operator) ? judgedOn(judge, maps, plan) : measuredOnCalibration(maps, plan)
  return {
    ...judged,
    plan,
    output,
    ...(experts.length > 0 && { experts }),
    warnings: removed < wanted && options.remove !== null ? ['No further pair may be merged.'] : [],
    layers: { before: model.layers, after: model.layers - removed },
    parameters: { before: model.parameters, after: model.parameters - removed * model.parameters_per_layer },
    bytes: { before: model.bytes, after: model.bytes - removed * model.bytes_per_layer },
    sizes: sizesOf(model.parameters - removed * model.parameters_per_layer),
    device,
    seconds: 0.06 * removed,
    peak_memory_bytes: 44_100_000,
  }
}

/** As if every row were a whole number of blocks. */
function sizesOf(parameters: number): StoredSize[] {
  const floats: [NumberType, number][] = [
    ['keep', 32],
    ['f32', 32],
    ['f16', 16],
    ['bf16', 16],
  ]
  const quantised: [NumberType, number][] = [
    ['q8_0', 8.5],
    ['q4_k_m', 4.9],
    ['q4_0', 4.5],
  ]
  const stored =
    (container: Container) =>
    ([dtype, bits]: [NumberType, number]): StoredSize => ({
      container,
      dtype,
      bytes: Math.round((parameters * bits) / 8),
      elements: dtype === 'q4_k_m' ? ['Q4_K', 'Q6_K'] : dtype === 'keep' ? ['F32'] : [dtype.toUpperCase()],
    })
  return [...floats.map(stored('safetensors')), ...[...floats, ...quantised].map(stored('gguf'))]
}

/** The last experts of each layer, whatever the rule. */
function withoutExperts(
  plan: MergePlan,
  { experts: sizes }: SimilarityReport['model'],
  { remove_experts = 0 }: PlanOptions,
): RemovedExperts[] {
  if (remove_experts === 0) return []
  const [count, used] =
    sizes ?? fail('usage', 'experts cannot be removed: no layer of this model has any; leave the option out')
  const stay = count - remove_experts
  if (stay < Math.max(2, used))
    fail('usage', `cannot remove ${remove_experts} of ${count} experts: ${Math.max(2, used)} must stay`)
  const all = Array.from({ length: count }, (_, expert) => expert)
  plan.kept_experts = Array.from({ length: plan.n_layers }, () => all.slice(0, stay))
  return plan.groups.map(([layer = 0]) => ({ layer, removed: all.slice(stay), share: remove_experts / (2 * count) }))
}

/** What calibration has seen cannot judge what was fitted to it. */
export function checkJudge({ text, text_name }: TextOptions): void {
  if (text?.startsWith('overlap'))
    fail(
      'usage',
      `12.4 % of ${text_name} was seen in calibration, and a model looks better than it is on text that it was fitted to; give another text to judge on.`,
    )
}

type Judged = Pick<PlanReport, 'text' | 'original' | 'merged' | 'dropped'>

function measuredOnCalibration(maps: SimilarityReport, plan: MergePlan): Judged {
  const original = { perplexity: maps.perplexity, kl: null, top1_agreement: null, collapsed: false }
  const merged = qualityOf(plan.steps.at(-1)?.perplexity ?? maps.perplexity, maps.perplexity)
  return { text: maps.text, original, merged, dropped: droppedAfter(plan.steps.length, maps) }
}

/** Better than dropping by what the operator is worth, and by how much text there was to fit to; the last step alone is measured. */
function judgedOn(judge: TextOptions, maps: SimilarityReport, plan: MergePlan): Judged {
  const dropped = qualityOf(HELD_OUT * (1 + 0.12 * plan.steps.length ** 1.4) * (isTooMuch(plan) ? 6 : 1), HELD_OUT)
  const merged = fittedWith(plan, maps.text.sequences * maps.text.tokens_per_sequence)
  Object.assign(plan.steps.at(-1) ?? {}, { ...merged, dropped })
  return {
    text: reportOf(judge),
    original: { perplexity: HELD_OUT, kl: null, top1_agreement: null, collapsed: false },
    merged,
    dropped,
  }
}

/** A plan whose layers are fitted to so many tokens: each doubling takes less away. */
export function fittedWith(plan: MergePlan, tokens: number): Quality {
  const removed = plan.n_layers - plan.groups.length
  const strain =
    0.004 * removed ** 1.3 * (OPERATOR[plan.operator]! / 0.5) * (1 + 6 / Math.sqrt(Math.max(1, tokens / 16)))
  return qualityOf(HELD_OUT * Math.exp(strain * (isTooMuch(plan) ? 40 : 1)), HELD_OUT)
}

/** What is left of a model of which more than three fifths are gone is no model. */
function isTooMuch({ n_layers, groups }: MergePlan): boolean {
  return groups.length < 0.4 * n_layers
}

/** A plan that exists already, with numbers after its last step. */
export async function measureOf(
  maps: SimilarityReport,
  given: MergePlan,
  observe: Observe,
  device: DeviceReport,
  output: WriteOptions,
  judge: TextOptions = EVALUATION,
): Promise<PlanReport> {
  const absorb = given.groups.flatMap(group => group.slice(1))
  const options: PlanOptions = { ...PLAN, operator: given.operator, selection: 'hand', absorb, remove: absorb.length }
  const report = await planOf(maps, options, observe, device, output, judge)
  return { ...report, plan: given }
}

/** The golden step, unless it would make a run longer than was asked for. */
function allowed(
  step: (typeof GOLDEN)[number] | undefined,
  { groups }: MergePlan,
  { longest_run }: PlanOptions,
): (typeof GOLDEN)[number] | undefined {
  return step && groups[step[0]]!.length + groups[step[0] + 1]!.length <= (longest_run ?? Infinity) ? step : undefined
}

function merge(
  plan: MergePlan,
  l: number,
  alpha: number,
  similarity: number,
  perplexity: number,
  maps: SimilarityReport,
): MergeStep {
  const [a, b] = [plan.groups[l]!, plan.groups[l + 1]!]
  plan.groups.splice(l, 2, [...a, ...b])
  plan.weights.splice(l, 2, [
    ...plan.weights[l]!.map(w => w * alpha),
    ...plan.weights[l + 1]!.map(w => w * (1 - alpha)),
  ])
  const removed = plan.steps.length + 1
  const step = {
    merged: [l, l + 1] as [number, number],
    groups: [a, b] as [number[], number[]],
    alpha,
    similarity,
    layers: plan.groups.length,
    perplexity,
    ...cost(perplexity, maps.perplexity),
    dropped: droppedAfter(removed, maps),
    bytes: maps.model.bytes - removed * maps.model.bytes_per_layer,
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

/** Checks of the engine's reports, and of what they must agree on among each other. */
import { LONGEST_KIND, MOST_KINDS } from '../charts/kinds'
import type { Candidate, CompareReport, CompareRow, ModelSpeed, Speeds, StoredOriginal, Verdict } from '../engine/protocol/compare'
import type { DeviceReport } from '../engine/protocol/device'
import type { ImatrixFile } from '../engine/protocol/imatrix'
import type { ExpertSelection, NamedMethod, Operator, Selection } from '../engine/protocol/method'
import type { ModelReport } from '../engine/protocol/model'
import type { NumberType, WriteOptions } from '../engine/protocol/output'
import type { Alpha, MergePlan, MergeStep, PlanOptions, PlanReport, RemovedExperts, StoredSize } from '../engine/protocol/plan'
import type { Quality } from '../engine/protocol/quality'
import type { CalibrationOptions, PointRule, SimilarityReport } from '../engine/protocol/similarity'
import type { Draw, TextReport } from '../engine/protocol/text'
import { METRIC_NAMES } from '../words/metrics'
import { EXPERT_SELECTIONS, OPERATORS, SELECTIONS } from '../words/methods'
import { QUANTISED } from '../words/types'
import {
  either, flag, integer, list, matching, matrix, maybeInfinite, MOST, nullable, number, oneOf, openRecord, otherwise, record, refuse, text,
  type Check, type Place,
} from './check'

const count = integer(0)
const layers = integer(1, MOST.layers)
const share = number(0, 1)
const texts = otherwise(list(text), [])
const numberType = oneOf<NumberType>('keep', 'f32', 'f16', 'bf16', ...QUANTISED)
const selection = oneOf(...(Object.keys(SELECTIONS) as Selection[]))
const operator = oneOf(...(Object.keys(OPERATORS) as Operator[]))
const container = oneOf('safetensors', 'gguf')

const device = record<DeviceReport>({
  kind: oneOf('gpu', 'software-gpu', 'cpu'), name: text, reason: text, threads: otherwise<number | undefined>(integer(1), undefined),
  alone: otherwise<string | undefined>(text, undefined), max_binding_bytes: number(0),
})

const kind: Check<string> = (value, at) => {
  const found = text(value, at)
  return found.length > 0 && found.length <= LONGEST_KIND ? found : refuse(at, `has ${found.length} letters and must have from 1 to ${LONGEST_KIND}`)
}

const modelFields = record<ModelReport>({
  name: text, architecture: text, layers, hidden_size: count, intermediate_size: count, heads: count, kv_heads: count, head_dim: count,
  vocab_size: count, context: count, parameters: count, parameters_per_layer: count, bytes: count, bytes_per_layer: count, dtype: text,
  dtypes: texts, tied_head: flag, sliding_window: nullable(count), container: otherwise(container, 'safetensors'), files: texts,
  kinds: otherwise<string[] | undefined>(list(kind, { most: MOST.layers }), undefined),
  experts: otherwise<[number, number] | undefined>(list(count, { length: 2 }) as Check<[number, number]>, undefined),
})

/** Kinds of layers are in no result of earlier versions. */
export const modelReport: Check<ModelReport> = (value, at) => {
  const { kinds, ...model } = modelFields(value, at)
  if (!kinds?.length) return model
  const here: Place = [at[0], `${at[1]}.kinds`]
  if (kinds.length !== model.layers) refuse(here, `has ${kinds.length} entries for ${model.layers} layers`)
  const different = new Set(kinds).size
  if (different > MOST_KINDS) refuse(here, `names ${different} kinds of layers and at most ${MOST_KINDS} are shown`)
  return { ...model, kinds }
}

export const textReport = record<TextReport>({ name: text, sequences: count, tokens_per_sequence: count, tokens_scored: count })

/** A text of somebody's own is not part of any result; only its name is. */
export const calibration = openRecord<CalibrationOptions>({
  text: () => null, text_name: nullable(text), samples: count, tokens: count,
  draw: otherwise(matching<Draw>(/^(first|spread|random:\d+)$/, 'first, spread or random:1'), 'first'), points: matching<PointRule>(/^(last|mean|tokens:\d+)$/, 'last, mean or tokens:4'),
  metric: oneOf(...METRIC_NAMES), dims: integer(1), time: number(0), density: number(), normalise: oneOf('rms', 'none'),
  bandwidth: nullable(number(0)), neighbours: integer(1),
})

export const planOptions = openRecord<PlanOptions>({
  remove: nullable(count), min_similarity: nullable(number()), selection: otherwise(selection, 'mka'), operator: otherwise(operator, 'average'),
  alpha: either<'similarity' | 'search', number>(oneOf('similarity', 'search'), share) as Check<Alpha>,
  one_shot: otherwise(flag, false), release_massive: otherwise(flag, false), keep_first: otherwise(flag, false), keep_last: otherwise(flag, false),
  longest_run: otherwise(nullable(count), null), candidates: otherwise(nullable(count), null), seed: otherwise(count, 0),
  locked: otherwise(list(count), []), absorb: otherwise(list(count), []),
  remove_experts: otherwise<number | undefined>(count, undefined), expert_selection: otherwise<ExpertSelection | undefined>(oneOf(...(Object.keys(EXPERT_SELECTIONS) as ExpertSelection[])), undefined),
})

export const writeOptions: Check<WriteOptions> = (value, at) => {
  const { container: kind, name, pack, rounding, ...rest } = openRecord({
    dtype: numberType, max_shard_bytes: number(1), container: nullable(container), name: nullable(text),
    requantise: otherwise<'all' | 'computed' | undefined>(oneOf('all', 'computed'), undefined), importances: otherwise<boolean | undefined>(flag, undefined),
    pack: otherwise<WriteOptions['pack']>(oneOf('int4', 'int4-g128', 'int4-g64', 'int4-g32', 'gptq-int4', 'gptq-int4-g128', 'gptq-int4-g64', 'gptq-int4-g32', 'int8'), undefined),
    rounding: otherwise<WriteOptions['rounding']>(oneOf('nearest', 'gptq', 'awq', 'smoothquant'), undefined),
  })(value, at)
  return { ...rest, container: kind ?? 'safetensors', ...(pack === undefined ? {} : { pack }), ...(rounding === undefined ? {} : { rounding }), ...(name === null ? {} : { name }) }
}

/** Absent where importances were collected, or none were used. */
export const imatrixFile = otherwise<ImatrixFile | undefined>(record<ImatrixFile>({ name: text, hash: text }), undefined)

const quality = record<Quality>({ perplexity: maybeInfinite, kl: nullable(number()), top1_agreement: nullable(share), collapsed: flag })

const step = record<MergeStep>({
  merged: list(count, { length: 2 }) as Check<[number, number]>, groups: list(list(count), { length: 2 }) as Check<[number[], number[]]>,
  alpha: share, similarity: number(), layers, perplexity: nullable(number(0)), kl: nullable(number()), top1_agreement: nullable(share),
  collapsed: otherwise(flag, false), dropped: nullable(quality), bytes: nullable(count),
})

/** Each layer once and in order; as many weights as layers, with the sum 1; steps that lead there. */
export const mergePlan: Check<MergePlan> = (value, at) => {
  const plan = record<MergePlan>({
    n_layers: layers, operator: otherwise(operator, 'average'), steps: otherwise(list(step), []), groups: list(list(count, { least: 1 })), weights: list(list(number())),
    kept_experts: otherwise<number[][] | undefined>(list(list(count)), undefined),
  })(value, at)
  if (plan.kept_experts && plan.kept_experts.length !== plan.n_layers) refuse([at[0], `${at[1]}.kept_experts`], `has ${plan.kept_experts.length} entries for ${plan.n_layers} layers`)
  runs(plan.groups, plan.n_layers, [at[0], `${at[1]}.groups`])
  if (plan.weights.length !== plan.groups.length) refuse([at[0], `${at[1]}.weights`], `has ${plan.weights.length} entries for ${plan.groups.length} groups`)
  for (const [g, weights] of plan.weights.entries()) {
    const here: Place = [at[0], `${at[1]}.weights[${g}]`]
    if (weights.length !== plan.groups[g]!.length) refuse(here, `has ${weights.length} entries for ${plan.groups[g]!.length} layers`)
    const sum = weights.reduce((a, b) => a + b, 0)
    if (Math.abs(sum - 1) > 1e-5) refuse(here, `adds up to ${sum} and not to 1`)
  }
  if (plan.steps.length > 0) replayed(plan, at)
  return plan
}

function runs(groups: readonly number[][], n: number, at: Place): void {
  const all = groups.flat()
  if (all.length !== n || all.some((layer, i) => layer !== i)) refuse(at, `must hold the layers 0 to ${n - 1}, each once and in order`)
}

function replayed({ steps, groups, n_layers }: MergePlan, [file, path]: Place): void {
  const now = Array.from({ length: n_layers }, (_, layer) => [layer])
  for (const [i, { merged: [l, m], groups: [a, b], layers: left }] of steps.entries()) {
    const here: Place = [file, `${path}.steps[${i}]`]
    if (m !== l + 1 || m >= now.length) refuse(here, `merges layers ${l} and ${m}, which are no neighbours of the ${now.length} that are left then`)
    if (String(now[l]) !== String(a) || String(now[m]) !== String(b)) refuse(here, 'names other original layers than the steps before it leave there')
    now.splice(l, 2, [...a, ...b])
    if (left !== now.length) refuse(here, `leaves ${now.length} layers and says ${left}`)
  }
  if (JSON.stringify(now) !== JSON.stringify(groups)) refuse([file, `${path}.groups`], 'are not what the steps lead to')
}

const beforeAfter = record({ before: count, after: count })

export const planReport: Check<PlanReport> = (value, at) => {
  const report = record<PlanReport>({
    plan: mergePlan, text: textReport, original: quality, merged: quality, dropped: quality, output: writeOptions, imatrix: imatrixFile, warnings: texts, experts: otherwise<RemovedExperts[] | undefined>(list(record<RemovedExperts>({ layer: count, removed: list(count), share: nullable(share) })), undefined),
    layers: beforeAfter, parameters: beforeAfter, bytes: beforeAfter,
    sizes: otherwise<StoredSize[] | undefined>(list(record<StoredSize>({ container, dtype: numberType, bytes: count, elements: list(text) })), undefined), device, seconds: number(0), peak_memory_bytes: number(0),
  })(value, at)
  const { plan, layers: { before, after } } = report
  if (before !== plan.n_layers || after !== plan.groups.length) refuse([at[0], 'layers'], `says ${before} before and ${after} after, and the plan ${plan.n_layers} and ${plan.groups.length}`)
  return report
}

/** Ranges by metric: cosines reach down to -1, everything else to 0. */
export const leastOf = (metric: string) => (metric === 'cosine' ? -1 : 0)

export const similarityReport: Check<SimilarityReport> = (value, at) => {
  const { layers: n, metric, dims, points } = record({
    layers, metric: oneOf(...METRIC_NAMES), dims: integer(1, 64), points: record({ rule: calibrationPoints, count: integer(1, MOST.points) }),
  })(value, at)
  const each = orNone(list(number(), { length: n }))
  const layerList = otherwise(list(integer(0, n - 1), { most: n }), [])
  const report = record<SimilarityReport>({
    model: modelReport, layers, points: () => points, metric: () => metric, dims: () => dims,
    point_list: otherwise(list(record({ sequence: count, position: integer(-1), text, token: otherwise<string | undefined>(text, undefined) }), { most: MOST.points }), []),
    options: calibration, text: textReport, epsilon: each,
    eigenvalues: orNone(list(list(number()), { length: n })),
    mutual_information: orNone(matrix(n, -1, 100)),
    similarity: matrix(n, leastOf(metric), 1),
    embedding: orNone(list(list(list(number(), { length: dims }), { length: points.count, most: MOST.points }), { length: n })),
    block_influence: each, massive: layerList, disconnected: layerList, perplexity: maybeInfinite, warnings: texts, device,
    seconds: number(0), peak_memory_bytes: number(0),
  })(value, at)
  if (report.model.layers !== n) refuse([at[0], 'model.layers'], `is ${report.model.layers} and layers ${n}`)
  if (report.point_list.length > 0 && report.point_list.length !== points.count) refuse([at[0], 'point_list'], `has ${report.point_list.length} entries for ${points.count} points`)
  return report
}
/** A list of a given length, or an empty one where it is not known. */
function orNone<T>(check: Check<T[]>): Check<T[]> {
  return (value, at) => (value === undefined || (Array.isArray(value) && value.length === 0) ? [] : check(value, at))
}

const calibrationPoints = matching<PointRule>(/^(last|mean|tokens:\d+)$/, 'last, mean or tokens:4')

/** KL of each sequence; what overflowed there is nothing in JSON. */
const bySequence: Check<number[]> = (value, at) => list(nullable(number()))(value, at).map(kl => kl ?? NaN)

const row = record<CompareRow>({
  method: text, selection, operator, dtype: otherwise<NumberType | undefined>(numberType, undefined), removed: count, layers, groups: list(list(count)), quality: nullable(quality),
  kl_by_sequence: otherwise<number[] | undefined>(bySequence, undefined), parameters: count, bytes: count, seconds: number(0), error: nullable(text), warnings: texts,
})

const original = record<StoredOriginal>({ dtype: numberType, quality, kl_by_sequence: bySequence, bytes: count, seconds: number(0) })

const candidate = nullable(record<Candidate>({ method: text, dtype: numberType, layers, bytes: count, kl: number() }))

const speeds = record<Speeds>({
  prompt_tokens: count, generated_tokens: count, rounds: integer(1),
  models: list(record<ModelSpeed>({ method: text, dtype: numberType, layers, prompt: number(0), generation: number(0), cache: nullable(count), noise: share })),
})

const verdict = record<Verdict>({
  size: count, merged: candidate, unmerged: candidate, difference: nullable(record({ difference: number(), margin: number(0) })), sentence: text,
})

export const compareReport = record<CompareReport>({
  model: modelReport, calibration: textReport, evaluation: textReport, overlap: share, original: quality, parameters: count, bytes: count, seed: count,
  output: otherwise<WriteOptions | undefined>(writeOptions, undefined), imatrix: imatrixFile, originals: otherwise<StoredOriginal[] | undefined>(list(original), undefined),
  rows: list(row), verdicts: otherwise<Verdict[] | undefined>(list(verdict), undefined), speeds: otherwise<Speeds | undefined>(speeds, undefined), cancelled: flag, warnings: texts, device, seconds: number(0), peak_memory_bytes: number(0),
})

export const namedMethod = record<NamedMethod>({ name: text, title: text, selection, operator, one_shot: flag, longest_run: otherwise(nullable(count), null), candidates: otherwise(nullable(count), null), about: text })

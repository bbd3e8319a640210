/** What a run has found, without weights: what reports, files and links carry, and what the page shows of one. */
import { CALIBRATION, WRITE } from '../app/defaults'
import type { CostCurve, Goal, SharedCosts } from '../charts/costs'
import type { Comparison } from '../charts/speed'
import type { Costs, Made } from '../app/made'
import type { CompareOptions } from '../engine/protocol/compare'
import type { NamedMethod } from '../engine/protocol/method'
import type { ModelReport } from '../engine/protocol/model'
import type { PlanOptions, PlanReport } from '../engine/protocol/plan'
import type { Recipe } from '../engine/protocol/recipe'
import type { CalibrationOptions, SimilarityReport } from '../engine/protocol/similarity'
import type { TextReport } from '../engine/protocol/text'
import { integer, list, nullable, otherwise, record, refuse, text, type Check } from './checks/check'
import { compareReport, namedMethod } from './checks/comparisons'
import { sharedCosts } from './checks/costs'
import { calibration, imatrixFile, planOptions, textReport, writeOptions } from './checks/facts'
import { mergePlan, planReport } from './checks/plans'
import { similarityReport } from './checks/similarities'

/** Version of this program, as the engine has it too. */
export const PROGRAM: string = __LAMINATE_VERSION__
/** Version of the form of `resultJson`. What is newer is refused. */
const FORM = 1

/** What is not known of the model, the text or the run is 0, empty, or NaN where 0 would be a claim. */
export interface Result {
  model: ModelReport
  maps: SimilarityReport | null
  plan: PlanReport | null
  /** What was asked for; null where it is not known. */
  options: PlanOptions | null
  comparison: Comparison | null
  /** How far one can go; null where that was not measured. */
  costs: SharedCosts | null
  methods: NamedMethod[]
  /** When it was saved, as an ISO date; empty where it is not known. */
  created: string
  /** What is missing, and how exact the numbers are: sentences for the reader. */
  notes: string[]
}

/** The part of the page's state that a result is made of. */
interface Found {
  maps: Made<SimilarityReport, CalibrationOptions> | null
  plan: Made<PlanReport, PlanOptions> | null
  comparison: Made<Comparison, CompareOptions> | null
  costs: Costs | null
  goal: Goal
  methods: readonly NamedMethod[]
}

/** What the page has at the moment; null while there is nothing. Texts of one's own stay out of it. */
export function resultOf({ maps, plan, comparison, costs, goal, methods }: Found): Result | null {
  if (!maps) return null
  return {
    model: maps.report.model,
    maps: withoutText(maps.report),
    plan: plan?.report ?? null,
    options: plan?.options ?? null,
    comparison: comparison?.report ?? null,
    costs: costs && costs.measured.length > 0 ? sharedOf(costs, goal) : null,
    methods: [...methods],
    created: new Date().toISOString(),
    notes: [],
  }
}

/** The curve without what it rests on in this page. */
function sharedOf({ method, text: on, whole, measured }: CostCurve, goal: Goal): SharedCosts {
  return { method, text: on, goal, whole, measured }
}

/** As `laminate similarity --json` prints it: the options without the text. */
export function withoutText(report: SimilarityReport): SimilarityReport {
  const { text: _, ...options } = report.options
  return { ...report, options: options as CalibrationOptions }
}

/** Without the pieces of text that say what each point is. */
export function withoutPieces(result: Result): Result {
  return { ...result, maps: result.maps && { ...result.maps, point_list: [] } }
}

/** All of it as one document. */
export function resultJson({
  maps,
  plan,
  options,
  comparison,
  costs,
  methods,
  created,
}: Result): Record<string, unknown> {
  return { laminate: PROGRAM, form: FORM, created, similarity: maps, plan, options, comparison, costs, methods }
}

export function recipeOf({
  model,
  maps,
  plan,
  options,
}: Pick<Result, 'model' | 'maps' | 'plan' | 'options'>): Recipe | null {
  if (!plan) return null
  const { text: _, ...known } = maps?.options ?? CALIBRATION
  return {
    laminate: PROGRAM,
    model: model.name,
    calibration: known as CalibrationOptions,
    text: plan.text,
    options,
    plan: plan.plan,
    output: plan.output,
    ...(plan.imatrix && { imatrix: plan.imatrix }),
  }
}

/** Facts of a model of which only the name and the depth are known. */
function unknownModel(name: string, layers: number): ModelReport {
  return {
    name,
    architecture: '',
    layers,
    hidden_size: 0,
    intermediate_size: 0,
    heads: 0,
    kv_heads: 0,
    head_dim: 0,
    vocab_size: 0,
    context: 0,
    parameters: 0,
    parameters_per_layer: 0,
    bytes: 0,
    bytes_per_layer: 0,
    dtype: '',
    dtypes: [],
    tied_head: false,
    sliding_window: null,
    container: 'safetensors',
    files: [],
  }
}

export function isKnown(model: ModelReport): boolean {
  return model.parameters > 0
}

/** Whether it is more than a bare matrix: only then is there a `similarity.json` of it. */
export function isComplete(maps: SimilarityReport): boolean {
  return maps.points.count > 0
}

const NO_TEXT: TextReport = { name: 'a text that is not named', sequences: 0, tokens_per_sequence: 0, tokens_scored: 0 }
const NO_DEVICE = { kind: 'cpu', name: 'a device that is not named', reason: '', max_binding_bytes: 0 } as const
export const NO_MAPS = 'The maps of the layers are not in it; a report or similarity.json has them.'

/** A bare matrix, as CSV and NPY files hold it. */
export function ofMatrix(similarity: number[][], name: string): Result {
  const n = similarity.length
  const model = unknownModel(name, n)
  const negative = similarity.some(row => row.some(value => value < 0))
  const maps: SimilarityReport = {
    model,
    layers: n,
    points: { rule: 'last', count: 0 },
    point_list: [],
    metric: negative ? 'cosine' : 'mi',
    dims: 0,
    options: { ...CALIBRATION },
    text: NO_TEXT,
    epsilon: [],
    eigenvalues: [],
    mutual_information: [],
    similarity,
    embedding: [],
    block_influence: [],
    massive: [],
    disconnected: [],
    perplexity: NaN,
    warnings: [],
    device: NO_DEVICE,
    seconds: 0,
    peak_memory_bytes: 0,
  }
  return {
    ...EMPTY,
    model,
    maps,
    notes: ['It holds the matrix alone: which model, which text and which metric it belongs to is not in it.'],
  }
}

const EMPTY = {
  maps: null,
  plan: null,
  options: null,
  comparison: null,
  costs: null,
  methods: [] as NamedMethod[],
  created: '',
  notes: [] as string[],
}

export function ofSimilarity(value: unknown, file: string): Result {
  const maps = similarityReport(value, [file, ''])
  return { ...EMPTY, model: maps.model, maps, notes: maps.embedding.length > 0 ? [] : [NO_MAPS] }
}

export function ofPlan(value: unknown, file: string): Result {
  const plan = planReport(value, [file, ''])
  return {
    ...EMPTY,
    model: unknownModel(file, plan.plan.n_layers),
    plan,
    notes: ['It holds a plan and its measures; the similarities are not in it.'],
  }
}

export function ofComparison(value: unknown, file: string): Result {
  const comparison = compareReport(value, [file, ''])
  return {
    ...EMPTY,
    model: comparison.model,
    comparison,
    methods: methodsIn(comparison),
    notes: ['It holds a comparison of methods; the similarities are not in it.'],
  }
}

const recipe: Check<Recipe> = record<Recipe>({
  laminate: text,
  model: text,
  calibration,
  text: textReport,
  options: nullable(planOptions),
  plan: mergePlan,
  output: otherwise(writeOptions, { ...WRITE }),
  imatrix: imatrixFile,
})

/** A recipe says what was done, not what the original was worth: there is no curve to draw. */
export function ofRecipe(value: unknown, file: string): Result {
  const { model: name, plan, text: on, options, output, imatrix } = recipe(value, [file, ''])
  const model = unknownModel(name, plan.n_layers)
  const last = plan.steps.at(-1)
  const unknown = { perplexity: NaN, kl: null, top1_agreement: null, collapsed: false }
  const merged = {
    perplexity: last?.perplexity ?? NaN,
    kl: last?.kl ?? null,
    top1_agreement: last?.top1_agreement ?? null,
    collapsed: last?.collapsed ?? false,
  }
  const report: PlanReport = {
    plan,
    text: on,
    original: unknown,
    merged,
    dropped: last?.dropped ?? unknown,
    output,
    imatrix,
    warnings: [],
    layers: { before: plan.n_layers, after: plan.groups.length },
    parameters: { before: 0, after: 0 },
    bytes: { before: 0, after: 0 },
    device: NO_DEVICE,
    seconds: 0,
    peak_memory_bytes: 0,
  }
  return {
    ...EMPTY,
    model,
    plan: report,
    options,
    notes: ["It is a recipe: which layers become one. The similarities and the original's measures are not in it."],
  }
}

/** What `resultJson` has written, here or in a report. */
export function ofDocument(value: unknown, file: string): Result {
  const found = record({
    laminate: text,
    form: integer(1),
    created: otherwise(text, ''),
    similarity: nullable(similarityReport),
    plan: nullable(planReport),
    options: nullable(planOptions),
    comparison: nullable(compareReport),
    costs: nullable(sharedCosts),
    methods: otherwise(list(namedMethod), []),
  })
  const { form, laminate } = record({ form: integer(1), laminate: text })(value, [file, ''])
  if (form > FORM)
    refuse([file, ''], `was made by a newer Laminate (${laminate}); reload this page, or open it where it was made`)
  const { similarity: maps, plan, options, comparison, costs, methods, created } = found(value, [file, ''])
  const model =
    maps?.model ??
    comparison?.model ??
    (plan ? unknownModel(file, plan.plan.n_layers) : refuse([file, ''], 'holds no result'))
  if (maps && plan && maps.layers !== plan.plan.n_layers)
    refuse([file, 'plan.n_layers'], `is ${plan.plan.n_layers} and the similarities are of ${maps.layers} layers`)
  if (costs && costs.whole.layers !== model.layers)
    refuse([file, 'costs.whole.layers'], `is ${costs.whole.layers} and the model has ${model.layers} layers`)
  return {
    model,
    maps,
    plan,
    options,
    comparison,
    costs,
    methods: methods.length > 0 || !comparison ? methods : methodsIn(comparison),
    created,
    notes: maps && maps.embedding.length === 0 ? [NO_MAPS] : [],
  }
}

/** Methods of a comparison that travels without their titles. */
function methodsIn({ rows }: Comparison): NamedMethod[] {
  const names = [...new Set(rows.map(row => row.method))]
  return names.map(name => {
    const { selection, operator } = rows.find(row => row.method === name)!
    return { name, title: name, selection, operator, one_shot: false, longest_run: null, candidates: null, about: '' }
  })
}

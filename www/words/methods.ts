/** Methods in words, and the choice of what to compare: pure functions. */
import type { CompareOptions, CompareRow } from '../engine/protocol/compare'
import type { ExpertSelection, NamedMethod, Operator, Selection } from '../engine/protocol/method'
import type { ModelReport } from '../engine/protocol/model'
import type { NumberType } from '../engine/protocol/output'
import type { PlanOptions } from '../engine/protocol/plan'
import type { TextOptions } from '../engine/protocol/text'
import { plural } from '../ui/format'
import { TYPES } from './types'

export const SELECTIONS: Record<Selection, { word: string; hint: string }> = {
  mka: { word: 'most similar neighbours', hint: 'By the similarity above.' },
  redundancy: { word: 'redundant runs', hint: 'Runs whose ends are alike and which change the hidden state little.' },
  bi: { word: 'least Block Influence', hint: 'Those that change the hidden state least.' },
  angular: {
    word: 'block of least angle',
    hint: 'Neighbours in one block, before and after which the last token differs least.',
  },
  pairs: { word: 'disjoint pairs', hint: 'Pairs of neighbours, the first of which turns the stream least.' },
  'greedy-nll': {
    word: 'search by likelihood',
    hint: 'In each round the layer whose loss harms the likelihood least; takes long.',
  },
  'greedy-kl': {
    word: 'search by KL',
    hint: 'In each round the layer whose loss changes the predictions least; takes long.',
  },
  laco: { word: 'windows from the top', hint: 'Windows, the deepest first, whose collapse keeps the last states.' },
  tail: { word: 'last layers', hint: 'The deepest, whatever they do.' },
  reverse: { word: 'last but one', hint: 'The deepest but the very last, whatever they do.' },
  random: { word: 'at random', hint: 'What every other rule must beat.' },
  hand: { word: 'by hand', hint: 'Those that you choose, in your order.' },
}

export const OPERATORS: Record<Operator, { word: string; hint: string }> = {
  average: { word: 'averaged', hint: 'Weighted averages of all their tensors.' },
  'match-experts': {
    word: 'averaged, experts matched',
    hint: 'As averaged; their experts are matched by what they make of the same text and averaged too, where that is better than keeping those of one layer.',
  },
  drop: { word: 'dropped', hint: 'One of them stays as it is.' },
  laco: { word: 'differences added', hint: 'The first, plus its differences from the others.' },
  scale: { word: 'dropped and scaled', hint: 'One stays, and what later layers add is scaled to what was lost.' },
  replaceme: {
    word: 'replaced by a linear map',
    hint: 'One stays, with the linear map that fits the others best in its down projection.',
  },
  flatten: { word: 'put side by side', hint: 'All, of which the most important heads and neurons stay.' },
  refit: { word: 'refitted', hint: 'One stays, with its output projections solved for anew by least squares.' },
  'pool-refit': {
    word: 'pooled and refitted',
    hint: 'Their heads and neurons are pooled, the needed ones stay, and the output projections are solved for.',
  },
}

export const EXPERT_SELECTIONS: Record<ExpertSelection, { word: string; hint: string }> = {
  reap: {
    word: 'that add least',
    hint: 'By the mean of gate times length of output, over the tokens that they serve (REAP).',
  },
  frequency: { word: 'that serve fewest tokens', hint: 'By the number of tokens that were routed to them.' },
  random: { word: 'at random', hint: 'What every other rule must beat.' },
}

/** What the page begins with, what stands one click beside it, and the first of the others, where the engine knows them. */
export const RECOMMENDED = 'laminate'
export const PUBLISHED = 'mka'
const SEARCHED = 'laminate-search'

/** Those that have no place of their own. */
export function otherMethods(methods: readonly NamedMethod[]): NamedMethod[] {
  const others = methods.filter(({ name }) => name !== RECOMMENDED && name !== PUBLISHED)
  return others.toSorted((a, b) => Number(b.name === SEARCHED) - Number(a.name === SEARCHED))
}

/** Whether layers are fitted to activations (`Operator::needs_activations` of `src/plan/method.rs`): then the text that they were fitted to cannot judge them. */
export function isFitted(operator: Operator): boolean {
  return operator !== 'average' && operator !== 'laco' && operator !== 'drop'
}

/** Whether the weights of a plan say how its layers are mixed (`Operator::is_weighted` there). */
export function isWeighted(operator: Operator): boolean {
  return averages(operator) || operator === 'laco'
}

/** Whether tensors of neighbours are averaged with a share of the first (`Operator::averages` there). */
export function averages(operator: Operator): boolean {
  return operator === 'average' || operator === 'match-experts'
}

/** What a layer of the model can do without: all but as many experts as serve a token, and two at least. */
export function spareExperts(model: Pick<ModelReport, 'experts'> | null): number {
  const [experts, used] = model?.experts ?? [0, 0]
  return Math.max(0, experts - Math.max(2, used))
}

/** The options of a plan for a file of a size: as many layers go as are best. */
export function forSize(options: PlanOptions, size: number | null): PlanOptions {
  return size === null ? options : { ...options, remove: null, min_similarity: null, remove_experts: 0 }
}

/** The options as the model can have them: no experts are removed that it cannot spare, and some layer where no experts are. */
export function fitting(options: PlanOptions, model: Pick<ModelReport, 'experts'> | null): PlanOptions {
  const { remove_experts = 0, expert_selection: _, ...others } = options
  const experts = Math.min(remove_experts, spareExperts(model))
  if (experts > 0) return { ...options, remove_experts: experts }
  return others.remove === 0 ? { ...others, remove: 1 } : others
}

/** Whether neighbours are merged by their similarity (`Selection::merges_neighbours` there), which may then say where to stop. */
export function mergesNeighbours(selection: Selection): boolean {
  return selection === 'mka' || selection === 'redundancy'
}

/** Whether the layers are compared again after each merge, so that a similarity is that of the moment (`Selection::Mka` without `one_shot` there); else it is the original's. */
export function comparesAnew({ selection, one_shot }: Pick<PlanOptions, 'selection' | 'one_shot'>): boolean {
  return selection === 'mka' && !one_shot
}

/** What the similarity beside each merge of a plan is; nothing where that is not known, as of a plan that came in a recipe. */
export function mergesWords(options: Pick<PlanOptions, 'selection' | 'one_shot' | 'absorb'> | null): {
  order: string
  of: string
} {
  // A plan that is repeated goes by hand and names no layers.
  if (!options || (options.selection === 'hand' && options.absorb.length === 0)) return { order: '', of: '' }
  return comparesAnew(options)
    ? { order: 'in the order they were made', of: 'of the two at that moment' }
    : { order: '', of: 'of the two neighbours in the original model' }
}

/** Whether it tries removals one by one, which takes many runs of the model. */
export function isSearch({ selection }: Pick<NamedMethod, 'selection'>): boolean {
  return selection.startsWith('greedy-')
}

/** What of the options makes a method. */
type Making = Pick<PlanOptions, 'selection' | 'operator' | 'one_shot' | 'longest_run' | 'candidates'>

/** The named method that the options amount to, if one does: passes matter to the similarity alone, runs to neighbours, candidates to searches. */
export function methodOf(
  methods: readonly NamedMethod[],
  { selection, operator, one_shot, longest_run, candidates }: Making,
): NamedMethod | null {
  return (
    methods.find(
      m =>
        m.selection === selection &&
        m.operator === operator &&
        (selection !== 'mka' || m.one_shot === one_shot) &&
        (!mergesNeighbours(selection) || m.longest_run === longest_run) &&
        (!isSearch(m) || m.candidates === candidates),
    ) ?? null
  )
}

/** The options that make a method, and nothing but those. */
export function makingOf({ selection, operator, one_shot, longest_run, candidates }: NamedMethod): Making {
  return { selection, operator, one_shot, longest_run, candidates }
}

/** What to call a method; its name, where the engine knows it no more. */
export function titleOf(methods: readonly NamedMethod[], name: string): string {
  return methods.find(method => method.name === name)?.title ?? name
}

/** Only neighbours of a similarity have one to stop at. */
export function withSelection(options: PlanOptions, selection: Selection, layers: number): Partial<PlanOptions> {
  if (mergesNeighbours(selection) || options.remove !== null) return { selection }
  return { selection, remove: quarter(layers), min_similarity: null }
}

export function quarter(layers: number): number {
  return Math.max(1, Math.min(layers - 1, Math.round(layers / 4)))
}

/** What the form holds. */
export interface Choice {
  methods: string[]
  /** Numbers of layers to remove, as they are typed: "2, 4, 6". */
  counts: string
  evaluation: TextOptions
  seed: number
  /** Types in which each model is measured. */
  types: NumberType[]
  /** Most bytes of the file that is to be made, where a size is asked for and not a number of layers. */
  size: number | null
}

/** An eighth of the layers: one number, so that the methods are a ranking. */
export function suggestedCounts(layers: number): string {
  return String(Math.max(1, Math.round(layers / 8)))
}

/** The numbers, each once and in their order; or what is wrong with them. */
export function parseCounts(text: string, layers: number): { counts: number[]; error: string } {
  const words = text.split(/[\s,;]+/).filter(word => word !== '')
  const wrong = (error: string) => ({ counts: [], error })
  if (layers < 2) return wrong('The model has a single layer; there is nothing to remove.')
  if (words.length === 0) return wrong('Say how many layers to remove, for example 2, 4, 6.')
  const odd = words.find(word => !/^\d+$/.test(word))
  if (odd !== undefined) return wrong(`“${odd}” is not a whole number. Write numbers with commas between them.`)
  const counts = [...new Set(words.map(Number))]
  const out = counts.find(count => count < 1 || count >= layers)
  if (out !== undefined) return wrong(`${out} of ${layers} layers cannot be removed: from 1 to ${layers - 1} can.`)
  return { counts, error: '' }
}

/** What the engine is to compare, or why it cannot. */
export function chosenComparison(
  { methods, counts: text, evaluation, seed, types }: Choice,
  layers: number,
): { options: CompareOptions | null; error: string } {
  const { counts, error } = parseCounts(text, layers)
  const why =
    methods.length === 0
      ? 'Choose at least one method.'
      : types.length === 0
        ? 'Choose at least one number type.'
        : error || (evaluation.text?.trim() === '' ? 'Paste a text to measure on, or choose the built-in one.' : '')
  if (why) return { options: null, error: why }
  const dtypes = types.length === 1 && types[0] === 'keep' ? {} : { dtypes: TYPES.filter(type => types.includes(type)) }
  return {
    options: { methods: [...methods], remove: counts, evaluation: { ...evaluation }, seed, ...dtypes },
    error: '',
  }
}

/** How many models are made and measured. */
export function modelsOf({ methods, remove, dtypes = ['keep'] }: CompareOptions): number {
  return methods.length * remove.length * dtypes.length
}

/** "3 methods with 2 numbers of layers: 6 models". */
export function sizeOf(options: CompareOptions): string {
  const { methods, remove, dtypes = [] } = options
  const models = plural(modelsOf(options), 'model')
  if (remove.length === 1 && dtypes.length < 2) return models
  return `${plural(methods.length, 'method')} with ${plural(remove.length, 'number')} of layers${dtypes.length > 1 ? ` in ${dtypes.length} types` : ''}: ${models}`
}

/** Numbers of layers to remove that span the sizes that smaller types make of the model: about a twelfth, a sixth, a quarter and a third of them. */
export function spreadCounts(layers: number): string {
  return [...new Set([12, 6, 4, 3].map(part => Math.max(1, Math.min(layers - 1, Math.round(layers / part)))))].join(
    ', ',
  )
}

/** The options that repeat one line of a comparison. */
export function planWith(
  row: Pick<CompareRow, 'method' | 'selection' | 'operator' | 'removed'>,
  methods: readonly NamedMethod[],
  seed: number,
): Partial<PlanOptions> {
  const { selection, operator, removed } = row
  const {
    one_shot = false,
    longest_run = null,
    candidates = null,
  } = methods.find(method => method.name === row.method) ?? {}
  return {
    remove: removed,
    min_similarity: null,
    selection,
    operator,
    one_shot,
    longest_run,
    candidates,
    alpha: 'similarity',
    seed,
  }
}

/** Settings that differ from the usual ones, though the switch "Advanced" hides them. */
import { averages, isSearch, makingOf, mergesNeighbours, methodOf, spareExperts } from '../words/methods'
import { CALIBRATION_NAMES, EVALUATION_NAMES, MATRIX_NAMES, PLAN_NAMES, WRITE_NAMES } from '../words/settings'
import { PLAN, WRITE } from './defaults'
import type { State } from './state.svelte'

/** Their names on the page; those that have no effect as things are do not count. */
export function unusual(state: State): string[] {
  const { matrix, palette } = state
  return [
    // What a stored result was compared and judged with stands beside the result in words.
    ...(state.readOnly ? [] : [...ofCalibration(state), ...ofEvaluation(state), ...ofWriting(state)]),
    ...ofPlan(state),
    ...named(
      MATRIX_NAMES,
      key =>
        ({ scale: matrix.scale !== 'linear', palette: palette !== 'viridis', against: matrix.against !== null })[key],
    ),
  ]
}

/** The names of those that `differs` says differ. */
function named<K extends string>(names: Record<K, string>, differs: (key: K) => boolean): string[] {
  return (Object.keys(names) as K[]).filter(differs).map(key => names[key])
}

function ofCalibration({ calibration, usual, restored }: State): string[] {
  return named(CALIBRATION_NAMES, key => {
    // How many sequences the time allowed is not known any more of a run that was kept.
    if (key === 'samples' && restored && calibration.samples < usual.calibration.samples) return false
    return calibration[key] !== usual.calibration[key]
  })
}

function ofEvaluation({ choice: { evaluation, seed }, usual }: State): string[] {
  return [
    ...named(EVALUATION_NAMES, key => evaluation[key] !== usual.evaluation[key]),
    ...(seed === PLAN.seed ? [] : [PLAN_NAMES.seed]),
  ]
}

function ofWriting({ writeOptions: { importances = true, max_shard_bytes } }: State): string[] {
  return named(
    WRITE_NAMES,
    key => ({ importances: !importances, max_shard_bytes: max_shard_bytes !== WRITE.max_shard_bytes })[key],
  )
}

function ofPlan(state: State): string[] {
  const { planOptions: options, methods, model, hand, targetSize } = state
  // The settings of a plan by hand are always in sight.
  if (hand.present.active) return []
  const { selection, operator } = options
  const like = methods.find(each => each.selection === selection && each.operator === operator)
  const usual = methodOf(methods, options) || !like ? options : { ...options, ...makingOf(like) }
  const experts = targetSize === null && spareExperts(model) > 0 && (options.remove_experts ?? 0) > 0
  const ownPair = methods.length > 0 && !like
  const differs: Record<keyof typeof PLAN_NAMES, boolean> = {
    selection: ownPair,
    operator: ownPair,
    alpha: averages(operator) && options.alpha !== PLAN.alpha,
    seed: selection === 'random' && options.seed !== PLAN.seed,
    longest_run: mergesNeighbours(selection) && options.longest_run !== usual.longest_run,
    candidates: isSearch(options) && options.candidates !== usual.candidates,
    one_shot: selection === 'mka' && options.one_shot !== usual.one_shot,
    keep_first: options.keep_first,
    keep_last: options.keep_last,
    release_massive: options.release_massive,
    remove_experts: experts,
    expert_selection: experts && (options.expert_selection ?? 'reap') !== 'reap',
  }
  return named(PLAN_NAMES, key => differs[key])
}

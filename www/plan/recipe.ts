/** Recipes into the page; out of it they go by `recipeOf` in `share/result.ts`. */
import { Failure } from '../engine/errors'
import type { MergePlan, PlanOptions } from '../engine/protocol/plan'
import type { ImatrixFile } from '../engine/protocol/imatrix'
import type { Recipe } from '../share'

const LARGEST_FILE = 16e6

/** Why a recipe cannot be repeated with the importances that are used; empty where it can (`Recipe::check_imatrix` in `src/protocol/plan.rs`). */
export function whyNotBy(
  { plan, output, imatrix }: Partial<Pick<Recipe, 'plan' | 'output' | 'imatrix'>>,
  given: ImatrixFile | null,
): string {
  // A plan alone says nothing of how it was stored.
  if (!plan || !output || output.importances === false || imatrix?.hash === given?.hash) return ''
  if (!imatrix)
    return `the recipe was made without the importance matrix ${given?.name}; take that away under Download or Compare methods.`
  if (!given)
    return `the recipe was made with the importance matrix ${imatrix.name}, which a recipe does not hold; open that file first.`
  return `${given.name} is not the importance matrix ${imatrix.name} that the recipe was made with; open that file first.`
}

/** A plan from a recipe, or a plan alone, for a model of `n` layers. What it says is checked by the engine too, when it is measured. */
export async function readPlan(
  file: Pick<File, 'name' | 'size' | 'text'>,
  n: number,
  given: ImatrixFile | null = null,
): Promise<{ plan: MergePlan; options: Partial<PlanOptions> | null; model: string | null }> {
  const wrong = (why: string) => new Failure('format', `${file.name}: ${why}`)
  if (file.size > LARGEST_FILE) throw wrong('this is too large for a recipe.')
  let json: unknown
  try {
    json = JSON.parse(await file.text())
  } catch {
    throw wrong('this is not JSON. Open a recipe.json.')
  }
  const found = (json ?? {}) as Partial<Recipe> & Partial<MergePlan>
  const plan = (found.plan ?? found) as Partial<MergePlan>
  const problem = whyNoPlan(plan, n) || whyNotBy(found, given)
  if (problem) throw wrong(problem)
  const { n_layers, operator = 'average', steps = [], groups, weights, kept_experts } = plan as MergePlan
  return {
    plan: { n_layers, operator, steps, groups, weights, ...(kept_experts && { kept_experts }) },
    options: found.options ?? null,
    model: typeof found.model === 'string' ? found.model : null,
  }
}

function whyNoPlan({ n_layers, groups, weights, steps, kept_experts }: Partial<MergePlan>, n: number): string {
  if (!Array.isArray(groups) || !Array.isArray(weights))
    return 'there is no plan in it. Open a recipe.json, or a plan with “groups” and “weights”.'
  if (n_layers !== n) return `it is for a model of ${n_layers} layers, and this one has ${n}.`
  if (!groups.every(Array.isArray) || groups.flat().some((layer, i) => layer !== i) || groups.flat().length !== n)
    return `its groups must hold the layers 0 to ${n - 1} once each and in order.`
  if (
    weights.length !== groups.length ||
    groups.some((group, g) => group.length === 0 || weights[g]?.length !== group.length)
  )
    return 'its weights must have the shape of its groups.'
  if (weights.flat().some(weight => typeof weight !== 'number' || !Number.isFinite(weight)))
    return 'its weights must be numbers.'
  if (
    steps !== undefined &&
    !(
      Array.isArray(steps) &&
      steps.every(
        step => Array.isArray(step?.groups) && step.groups.length === 2 && step.groups.flat().every(Number.isInteger),
      )
    )
  )
    return 'its steps must each name the two groups of layers that they merge.'
  if (
    kept_experts !== undefined &&
    !(
      Array.isArray(kept_experts) &&
      kept_experts.length === n &&
      kept_experts.every(kept => Array.isArray(kept) && kept.every(Number.isInteger))
    )
  )
    return `its lists of experts that stay must be one for each of ${n} layers.`
  if (groups.length === n && !kept_experts?.length) return 'its plan merges nothing.'
  return ''
}

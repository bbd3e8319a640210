/** Recipes into the page; out of it they go by `recipeOf` in `share/result.ts`. */
import { Failure } from '../engine/errors'
import type { MergePlan, PlanOptions } from '../engine/protocol/plan'
import type { ImatrixFile } from '../engine/protocol/imatrix'
import type { Recipe } from '../engine/protocol/recipe'
import { jsonOf, mergePlan } from '../share'

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
  const found = ((await jsonOf(file, LARGEST_FILE)) ?? {}) as Partial<Recipe> & Partial<MergePlan>
  const said = (found.plan ?? found) as Partial<MergePlan>
  if (!said.groups || !said.weights)
    throw wrong('there is no plan in it. Open a recipe.json, or a plan with “groups” and “weights”.')
  if (said.n_layers !== n) throw wrong(`it is for a model of ${said.n_layers} layers, and this one has ${n}.`)
  const { kept_experts, ...plan } = mergePlan(said, [file.name, 'plan'])
  if (plan.groups.length === n && !kept_experts?.length) throw wrong('its plan merges nothing.')
  const problem = whyNotBy(found, given)
  if (problem) throw wrong(problem)
  return {
    plan: { ...plan, ...(kept_experts && { kept_experts }) },
    options: found.options ?? null,
    model: typeof found.model === 'string' ? found.model : null,
  }
}

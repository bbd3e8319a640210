/** What other features use of this one. */
export { default as OpenResult } from './OpenResult.svelte'
export { isComplete, recipeOf, withoutText } from './result'
export { jsonOf, similarities } from './checks/check'
export { mergePlan } from './checks/plans'

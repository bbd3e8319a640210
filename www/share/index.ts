/** What other features use of this one. */
export { default as OpenResult } from './OpenResult.svelte'
export { isWhole, recipeOf, withoutText } from './result'
export { jsonOf, similarities } from './checks/check'
export { mergePlan } from './checks/plans'

/** What other features use of this one. */
export { default as Elbow } from './Elbow.svelte'
export { asByHand, goByRule, mergeByHand, travel } from './edit'
export { cannotMerge, isMerged } from './hand'
export { travelKey } from './history'
export { presentGroups } from './present'

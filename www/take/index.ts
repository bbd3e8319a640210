/** What other features use of this one. */
export { default as ImatrixChoice } from './ImatrixChoice.svelte'
export { default as TypeChoices } from './TypeChoices.svelte'
export { modelName, resultBytes } from './save'

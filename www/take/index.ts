/** What other features use of this one. */
export { default as ImatrixChoice } from './ImatrixChoice.svelte'
export { default as TypeChoices } from './TypeChoices.svelte'
export { default as RunElsewhere } from './RunElsewhere.svelte'
export { modelName, resultBytes, noDownloads, saveAsDownload } from './save'

/** What other features use of this one. */
export { default as Heatmap } from './Heatmap.svelte'

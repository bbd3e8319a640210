/** What other features use of this one. */
export { default as HealPanel } from './HealPanel.svelte'

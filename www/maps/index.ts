/** What other features use of this one. */
export { default as MapPair } from './MapPair.svelte'

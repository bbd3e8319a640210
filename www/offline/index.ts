/** What other features use of this one. */
export { ISOLATING } from './isolation'

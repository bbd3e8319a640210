/** What other features use of this one. */
export { parseEndpoint } from './remote/address'

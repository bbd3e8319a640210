/** What other features use of this one. */
export { GENERATED, PROMPT, ROUNDS } from './rounds'
export { measureFront, timeable, tooLarge } from './speed'
export { cannotRun } from './trial'

/** What other features use of this one. */
export { GENERATED, PROMPT, ROUNDS } from './rounds'
export { type BothSpeeds, measureFront, timeable, tooLarge } from './speed'
export { cannotRun } from './trial'

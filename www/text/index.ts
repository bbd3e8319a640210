/** What other features use of this one. */
export { default as EvaluationText } from './EvaluationText.svelte'
export { default as TextChoice } from './TextChoice.svelte'
export { evaluationOf } from './texts'
export { LIMIT_SECONDS, USUAL_DEMO, usualOf } from './usual'

/** What the model reads before a sentence of one's own, so that the sentence ends where the other texts end. */

/** Tokens of each text of the walk, without the one that begins it. */
export const TEXT_TOKENS = 47

/** A story in which each word, with the space before it, and each mark is one token of the demo's vocabulary. */
export const OPENING =
  'Once upon a time there was a little friend named Timmy. They had a very happy day. One day he had to be big. He said to his mom, I saw Lily. She was very happy to play with her big friend.'

/** The last tokens of the story. */
export function openingOf(tokens: number): string {
  const all = OPENING.match(/\w+|[.,]/g)!
  return all
    .slice(all.length - tokens)
    .join(' ')
    .replace(/ ([.,])/g, '$1')
}

/** The text that the engine is given: the sentence at the end of a first piece of `TEXT_TOKENS` tokens, then the stories as they are. */
export function textWith(sentence: string, tokens: number, stories: string): string {
  return [openingOf(TEXT_TOKENS - tokens), sentence, stories].filter(Boolean).join(' ')
}

/** Where the texts of two models part. */

export interface Parting {
  /** What both have. */
  same: string
  /** The first word that differs; empty where one text ends there, or none differs. */
  word: string
  rest: string
}

/** `own` up to the first word in which it differs from `other`, that word, and what follows. */
export function parting(own: string, other: string): Parting {
  const [mine, theirs] = [words(own), words(other)]
  let n = mine.findIndex((word, i) => word !== theirs[i])
  if (n < 0) n = mine.length
  return { same: mine.slice(0, n).join(''), word: mine[n] ?? '', rest: mine.slice(n + 1).join('') }
}

/** How long two texts are the same, as a sentence. */
export function partingWords(own: string, other: string): string {
  const same = parting(own, other)
  const n = same.same.trim() === '' ? 0 : same.same.trim().split(/\s+/).length
  if (own === other) return 'Both models write the same, word for word.'
  if (n === 0) return 'The two part at the first word.'
  return `The first ${n === 1 ? 'word is' : `${n} words are`} the same.`
}

/** Words, each with the space before it. */
const words = (text: string): string[] => text.match(/\s*\S+|\s+$/g) ?? []

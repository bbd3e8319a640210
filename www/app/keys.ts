/** Keys of results: what a result was made of, so that the page knows when that has changed. */

/** Longer texts, such as one of the user's own, are in a key by their digest. */
const LONGEST = 64

/** The same for equal values, whatever the value; short, however long the texts in it are. */
export function keyOf(value: unknown): string {
  return JSON.stringify(value, (_, each: unknown) =>
    typeof each === 'string' && each.length > LONGEST ? digestOf(each) : each,
  )
}

const DIGESTS = new Map<string, string>()
/** So many digests are remembered: keys are asked for at every change of a setting, and texts can be megabytes. */
const REMEMBERED = 16

/** Length and two hashes of 32 bits (FNV-1a, forwards and backwards): no proof against intent, but against chance. */
function digestOf(text: string): string {
  const known = DIGESTS.get(text)
  if (known !== undefined) return known
  let [forwards, backwards] = [0x811c9dc5, 0x811c9dc5]
  for (let i = 0; i < text.length; i++) {
    forwards = Math.imul(forwards ^ text.charCodeAt(i), 0x01000193)
    backwards = Math.imul(backwards ^ text.charCodeAt(text.length - 1 - i), 0x01000193)
  }
  const hex = (hash: number) => (hash >>> 0).toString(16).padStart(8, '0')
  const digest = `#${text.length}-${hex(forwards)}${hex(backwards)}`
  if (DIGESTS.size >= REMEMBERED) DIGESTS.delete(DIGESTS.keys().next().value!)
  DIGESTS.set(text, digest)
  return digest
}

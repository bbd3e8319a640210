/** Names of repositories: what a hub takes, and what is proposed. */

/** Longest name of a repository, without whose it is. */
const LONGEST = 96

/** A name that a hub takes, as near as can be to what a model is called. */
export function proposedName(model: string): string {
  const name = model
    .replace(/[^\w.-]+/g, '-')
    .replace(/([-.])[-.]+/g, '$1')
    .slice(0, LONGEST)
    .replace(/^[-.]+/, '')
    .replace(/(\.git|\.ipynb)$/i, '')
    .replace(/[-.]+$/, '')
  return name || 'model'
}

/** What is wrong with a name as it was typed, with or without whose repository it is; empty where nothing is. */
export function whyNoName(typed: string): string {
  const text = typed.trim()
  if (text === '') return 'Name the repository first.'
  const parts = text.split('/')
  if (parts.length > 2) return `“${text}” is no name of a repository. Write name, or organisation/name.`
  for (const part of parts) {
    if (part === '') return `“${text}” lacks what stands on one side of the slash. Write name, or organisation/name.`
    const strange = /[^\w.-]/u.exec(part)?.[0]
    if (strange)
      return `“${part}” has ${strange.trim() === '' ? 'a space' : `the character ${strange}`} in it. Use letters, digits, “-”, “_” and “.”.`
    if (/--|\.\./.test(part)) return `“${part}” has two dashes or dots side by side. Leave one of them out.`
    if (/^[-.]|[-.]$/.test(part)) return `“${part}” begins or ends with a dash or a dot. Leave that out.`
    if (/\.(git|ipynb)$/i.test(part)) return `“${part}” ends like a file of another kind. Choose another ending.`
    if (part.length > LONGEST) return `“${part.slice(0, 20)}…” is longer than ${LONGEST} characters. Shorten it.`
  }
  return ''
}

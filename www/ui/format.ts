/**
 * Numbers as a person reads them: a unit, and no more digits than mean something. The space before a unit
 * does not break.
 */

const UNITS = ['bytes', 'kB', 'MB', 'GB', 'TB'] as const

export function bytes(n: number): string {
  let unit = 0
  let value = n
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000
    unit++
  }
  return `${unit === 0 ? Math.round(value) : figures(value, 3)}\u00a0${UNITS[unit]}`
}

/** 578112 -> "578 thousand", 1.24e9 -> "1.24 billion". */
export function count(n: number): string {
  if (n < 10_000) return whole(n)
  for (const [size, word] of [
    [1e9, 'billion'],
    [1e6, 'million'],
    [1e3, 'thousand'],
  ] as const) {
    if (n >= size) return `${figures(n / size, 3)}\u00a0${word}`
  }
  return whole(n)
}

/** Words as one says them: "a, b and c". */
export function listed(words: readonly string[]): string {
  return words.length < 2 ? (words[0] ?? '') : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`
}

export function whole(n: number): string {
  return Math.round(n).toLocaleString('en-GB')
}

export function seconds(s: number): string {
  if (s < 1) return 'less than 1 s'
  if (s < 90) return `${Math.round(s)}\u00a0s`
  const minutes = Math.round(s / 60)
  if (minutes < 90) return `${minutes}\u00a0min`
  return `${Math.floor(minutes / 60)}\u00a0h\u00a0${minutes % 60}\u00a0min`
}

/** A day and a time of it: "26 November, 13:05". */
export function moment(at_ms: number): string {
  return new Date(at_ms)
    .toLocaleString('en-GB', { day: 'numeric', month: 'long', hour: '2-digit', minute: '2-digit' })
    .replace(' at ', ', ')
}

/** An estimate of time: "about 12 s". */
export function aboutSeconds(s: number): string {
  return s < 1 ? seconds(s) : `about ${seconds(s)}`
}

/** Perplexity: 6.75, 41.0, 852, 30,120. */
export function perplexity(p: number): string {
  if (p >= 1e6 && Number.isFinite(p)) return count(p)
  return p >= 1000 && Number.isFinite(p) ? whole(p) : figures(p, 3)
}

export function similarity(s: number): string {
  return s.toFixed(3)
}

export function nats(x: number): string {
  return `${Math.abs(x) < 0.1 && x !== 0 ? figures(x, 2) : x.toFixed(2)}\u00a0nats`
}

export function percent(fraction: number): string {
  const p = fraction * 100
  return `${Math.abs(p) < 10 ? p.toFixed(1) : Math.round(p)}\u00a0%`
}

/** Tokens a second: 8.4, 41, 1,240. */
export function rate(perSecond: number): string {
  return perSecond < 10 ? perSecond.toFixed(1) : whole(perSecond)
}

/** To be followed by what it is compared with: "4.6 % more than", "6.9 times". */
export function change(before: number, after: number): string {
  const ratio = after / before
  if (ratio >= 2) return `${figures(ratio, 2)} times`
  return `${percent(Math.abs(ratio - 1))} ${ratio >= 1 ? 'more' : 'less'} than`
}

/** [1, 2, 3] -> "1 2 3"; long runs shortened: "1 to 9". */
export function group(layers: number[]): string {
  const first = layers[0]
  const last = layers.at(-1)
  return layers.length > 4 ? `${first} to ${last}` : layers.join(' ')
}

/** What the engine gives as a clause, standing alone. A name at its beginning, such as that of a file or of a key, stays as it is written. */
export function sentence(clause: string): string {
  const isWord = /^\p{Ll}+(['’-]\p{Ll}+)*[,;]?(\s|$)/u.test(clause)
  const text = isWord ? clause.charAt(0).toUpperCase() + clause.slice(1) : clause
  return /[.!?]$/.test(text) ? text : `${text}.`
}

export function plural(n: number, word: string): string {
  return `${whole(n)} ${word}${n === 1 ? '' : 's'}`
}

function figures(value: number, digits: number): string {
  if (!Number.isFinite(value)) return 'not finite'
  const text = value.toPrecision(digits)
  return text.includes('e') ? Number(text).toLocaleString('en-GB') : text
}

import { Failure } from './errors'
import { hostOf, Trouble } from './fetching'

/** Ends with what a server's refusal means for the user: at once, or after some more tries. */
export function refuse(response: Response, name: string, url: string): never {
  const { status, headers } = response
  const host = hostOf(url)
  const trouble = passing(response, url)
  if (trouble) throw trouble
  const gated = headers.get('x-error-code') === 'GatedRepo'
  if (status === 403 || (status === 401 && gated)) {
    throw new Failure(
      'source',
      `${name}: ${host} refuses access (status ${status}). Accept the licence on the model's page, then give a token of the same account; or check that the address may be read.`,
    )
  }
  if (status === 401)
    throw new Failure(
      'source',
      `${name}: ${host} asks who you are (status 401): it is private, or it does not exist. Check the spelling, or give a token that may read it.`,
    )
  if (status === 404 || status === 410)
    throw new Failure(
      'source',
      `${name}: ${host} has no such thing (status ${status}). Check the spelling of the repository, the revision and the file.`,
    )
  throw new Failure(
    'source',
    `${name}: ${host} answered with status ${status}. Open ${shortened(url)} in a tab to see why.`,
  )
}

/** A refusal that may be over when it is asked again; null where it will not be. */
export function passing({ status, headers }: Pick<Response, 'status' | 'headers'>, url: string): Trouble | null {
  const host = hostOf(url)
  if (status === 429)
    return new Trouble(
      `${host} wants fewer requests (status 429)`,
      'Wait some minutes, then run the step again.',
      retryAfter(headers),
      'limit',
    )
  if (status === 408 || status === 425 || status >= 500)
    return new Trouble(`${host} failed (status ${status})`, 'Try again later.', retryAfter(headers))
  return null
}

/** Milliseconds, from either form of the header; null where the server names none or does not show it. */
export function retryAfter(headers: Headers, now = Date.now()): number | null {
  const text = headers.get('retry-after')
  if (!text) return null
  if (/^\d+$/.test(text)) return Number(text) * 1000
  const date = Date.parse(text)
  return Number.isNaN(date) ? null : Math.max(0, date - now)
}

/** What tells one version of a file from another; null where the server does not say. */
export function versionOf(headers: Headers): string | null {
  return headers.get('etag')?.replace(/^W\//, '') ?? headers.get('last-modified')
}

export interface ContentRange {
  first: number
  last: number
  /** Null where the server does not know. */
  total: number | null
}

export function contentRange(headers: Headers): ContentRange | null {
  const match = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(headers.get('content-range') ?? '')
  if (!match) return null
  return { first: Number(match[1]), last: Number(match[2]), total: match[3] === '*' ? null : Number(match[3]) }
}

export function changed(name: string, why: string): Failure {
  return new Failure('source', `${name} changed on the server while it was being read (${why}). Open the model again.`)
}

/** Without the query, which may be long and may be a signature. */
function shortened(url: string): string {
  return url.split('?', 1)[0] ?? url
}

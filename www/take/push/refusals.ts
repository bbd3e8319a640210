/** What a hub's refusal to be written to means for the user: one sentence, and what to do. */
import { Failure } from '../../engine/errors'
import { hostOf } from '../../engine/fetching'

/** Where and what was asked. */
export interface Addressed {
  hub: string
  repository: string
}

/** Words of a hub that has no room left; other refusals have the same statuses. */
const FULL = /storage|quota|upgrade|billing|too large|space left|patterns tripped/i

/** The sentence for a status, with what the hub said itself. */
export function refusal(status: number, said: string, { hub, repository }: Addressed): Failure {
  const host = hostOf(hub)
  const quoted = said && `: “${said}”`
  const tokens = `${hub}/settings/tokens`
  if (status === 401)
    return new Failure(
      'source',
      `${host} does not accept the token. Copy it whole once more, or make a new one that may write at ${tokens}.`,
    )
  if (status === 402 || status === 413 || status === 507 || (status === 403 && FULL.test(said)))
    return new Failure(
      'limit',
      `${host} has no room left for ${repository}${quoted}. Free some there, or send a smaller model${status === 403 && /private/i.test(said) ? ', or make the repository public' : ''}.`,
    )
  if (status === 403)
    return new Failure(
      'source',
      `${host} does not let this token write to ${repository}${quoted}. Make one that may at ${tokens}, or choose another name.`,
    )
  if (status === 404)
    return new Failure('source', `${host} does not know ${repository} any more. Press “See what will be sent” again.`)
  if (status === 409)
    return new Failure(
      'source',
      `There is a repository ${repository} on ${host} by now. Press “See what will be sent” again, or choose another name.`,
    )
  if (status === 412)
    return new Failure('source', `${repository} was changed by somebody else meanwhile. Send it once more.`)
  return new Failure(
    'source',
    `${host} refuses to take ${repository} (status ${status})${quoted}. Choose another name, or see ${hub}/${repository}.`,
  )
}

/** What an answer says of itself, in one line. */
export async function saidBy(response: Response): Promise<string> {
  const text = await response.text().catch(() => '')
  let said: unknown = response.headers.get('x-error-message')
  try {
    const { error, message } = JSON.parse(text) as { error?: unknown; message?: unknown }
    said = error ?? message ?? said
  } catch {
    // A page of a web server is no sentence.
    if (!text.includes('<')) said ??= text
  }
  return typeof said === 'string' ? oneLine(said) : ''
}

/** One line of at most 200 characters, without its full stop. */
export function oneLine(text: string): string {
  const line = text.replace(/\s+/g, ' ').trim()
  return (line.length > 200 ? `${line.slice(0, 199)}…` : line).replace(/[.\s]+$/, '')
}

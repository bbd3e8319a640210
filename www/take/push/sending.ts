import { passing } from '../../engine/answers'
import { Failure } from '../../engine/errors'
import { entire, hostOf, once, persist, type Net } from '../../engine/fetching'
import { putFile, type Put } from './put'
import { oneLine, refusal, saidBy, type Addressed } from './refusals'
import type { Batch, Sent } from './sent'

/** What sending to a hub needs. */
export interface Reach extends Addressed {
  /** Goes to the hub and to no other server. */
  token: string
  net: Net
  sent: Sent
  /** Told how many bytes of a part of a file have left. */
  left?: (path: string, part: number, bytes: number) => void
  put?: Put
}

/**
 * Stands for the token where the hub's library asks for one: the library insists on the form of the hub's own. The token
 * itself takes its place where the library would send it, if that is the hub.
 */
export const STAND_IN = 'hf_stand-in'

/** Answers of a storage that may only mean that an address has run out. */
const RUN_OUT = [400, 401, 403, 404, 410]

/** The storage does not take what is sent to an address of before; other addresses have to be asked for. */
export class RunOut extends Error {}

/** What the library says of a body beside what `fetch` takes. */
type Hinted = RequestInit & { progressHint?: { path?: string; part?: number } }

/** The library's `fetch` with our patience and sentences; parts that the storage has are not sent again. */
export function sendingTo(reach: Reach): typeof fetch {
  return async (input, init: Hinted = {}) => {
    const url = String(input)
    // The library stops all requests where one fails; the user's stop stops the library.
    const net: Net = { ...reach.net, signal: () => init.signal ?? reach.net.signal() }
    const headers = withToken(url, new Headers(init.headers), reach)
    const answer =
      init.method === 'PUT' && init.body instanceof Blob
        ? await part(url, init.body, headers, net, reach, init.progressHint)
        : await ask(url, headers, net, reach, init)
    const verification = reach.sent.verification(url)
    if (verification) await verify(verification, net, reach)
    return answer
  }
}

function withToken(url: string, headers: Headers, { hub, token }: Reach): Record<string, string> {
  if (headers.has('authorization')) {
    if (new URL(url).origin === new URL(hub).origin) headers.set('authorization', `Bearer ${token}`)
    else headers.delete('authorization')
  }
  return Object.fromEntries(headers)
}

/** A request of the hub itself. What it has not is told to the library; any other refusal ends in a sentence. */
async function ask(
  url: string,
  headers: Record<string, string>,
  net: Net,
  reach: Reach,
  { method = 'GET', body }: RequestInit,
): Promise<Response> {
  const answer = await persist(reach.repository, net, () =>
    once(
      url,
      headers,
      net,
      async (response, moved) => {
        const trouble = passing(response, url)
        if (trouble) throw trouble
        return entire(response, moved)
      },
      { method, body },
    ),
  )
  if (answer.status === 404 && method === 'GET') return answer
  if (!answer.ok) throw refusal(answer.status, await saidBy(answer), reach)
  if (!url.endsWith('/info/lfs/objects/batch')) return answer
  const batch = (await answer.json()) as Batch
  const refused = batch.objects.find(({ error }) => error)?.error
  if (refused) throw refusal(refused.code, oneLine(refused.message), reach)
  return new Response(JSON.stringify(reach.sent.recall(url, batch)), answer)
}

/** A file, or a part of one, for the storage. */
async function part(
  url: string,
  body: Blob,
  headers: Record<string, string>,
  net: Net,
  { repository, sent, left, put = putFile }: Reach,
  { path = '', part: number = 0 }: { path?: string; part?: number } = {},
): Promise<Response> {
  const tell = (bytes: number) => left?.(path, number, bytes)
  const known = sent.tag(url)
  if (known !== null) {
    tell(body.size)
    return new Response(null, { headers: { ETag: known } })
  }
  const answer = await persist(`${path} for ${repository}`, net, async () => {
    tell(0)
    const response = await put(url, body, headers, net, tell)
    const trouble = passing(response, url)
    if (trouble) throw trouble
    return response
  })
  const said = answer.ok ? '' : await saidBy(answer)
  if (RUN_OUT.includes(answer.status)) {
    sent.drop(url)
    throw new RunOut(`${hostOf(url)} does not take ${path} (status ${answer.status}${said && `: “${said}”`})`)
  }
  if (!answer.ok)
    throw new Failure('source', `${hostOf(url)} does not take ${path} (status ${answer.status}). Send it once more.`)
  const tag = answer.headers.get('etag')
  if (tag !== null) sent.keep(url, tag)
  tell(body.size)
  return answer
}

/** Tells the hub that an object lies in its storage, as Git LFS asks for; the library leaves that out. */
async function verify(
  { action, oid, size }: NonNullable<ReturnType<Sent['verification']>>,
  net: Net,
  reach: Reach,
): Promise<void> {
  const headers = new Headers({
    ...action.header,
    Accept: 'application/vnd.git-lfs+json',
    'Content-Type': 'application/vnd.git-lfs+json',
    Authorization: '',
  })
  const url = new URL(action.href, reach.hub).href
  await ask(url, withToken(url, headers, reach), net, reach, { method: 'POST', body: JSON.stringify({ oid, size }) })
}

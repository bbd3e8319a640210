/** A model on its way to a hub. Loaded when something is to be sent, because the hub's library comes with it. */
import { commitIter, createRepo, HubApiError, modelInfo, whoAmI } from '@huggingface/hub'
import { Failure, fromBrowser } from '../../engine/errors'
import { hostOf, type Net } from '../../engine/fetching'
import { ownRepository, whyNoWriting, type Account } from './account'
import { oneLine } from './refusals'
import { RunOut, sendingTo, STAND_IN, type Reach } from './sending'

export interface SentFile {
  path: string
  content: Blob
}

/** A repository that is there already. */
export interface Existing {
  isPrivate: boolean
  /** Paths of all its files. */
  files: string[]
}

/** Where something is to go. */
export interface Destination {
  account: string
  /** `owner/name`. */
  repository: string
  /** Null where it has to be made. */
  existing: Existing | null
}

export interface Parcel extends Destination {
  files: readonly SentFile[]
  isPublic: boolean
  title: string
}

/** How far it is: bytes of files that are read for their checksums, then bytes that the hub has. */
export type Tell = (stage: 'read' | 'send', done: number, total: number) => void

/** Addresses that ran out are asked for anew so many times in a row. */
const ANEW = 2

/** Who the token belongs to, and the repository as it is now. Refuses what could not be written. */
export async function destination(typed: string, reach: Omit<Reach, 'repository'>): Promise<Destination> {
  const asked: Reach = { ...reach, repository: typed }
  return inSentences(asked, async () => {
    const { hub } = reach
    const account = (await whoAmI({ accessToken: STAND_IN, hubUrl: hub, fetch: sendingTo(asked) })) as Account
    const repository = ownRepository(typed, account)
    const problem = whyNoWriting(account, repository, hub)
    if (problem) throw new Failure('source', problem)
    return { account: account.name, repository, existing: await existing(repository, { ...asked, repository }) }
  })
}

async function existing(name: string, reach: Reach): Promise<Existing | null> {
  try {
    const fetch = sendingTo(reach)
    const found = await modelInfo({
      name,
      additionalFields: ['filePaths'],
      accessToken: STAND_IN,
      hubUrl: reach.hub,
      fetch,
    })
    return { isPrivate: found.private, files: found.filePaths }
  } catch (thrown) {
    if (thrown instanceof HubApiError && thrown.statusCode === 404) return null
    throw thrown
  }
}

/** Makes the repository, where there is none. */
export async function make({ repository, isPublic }: Parcel, reach: Reach): Promise<void> {
  await inSentences(reach, () =>
    createRepo({
      repo: { type: 'model', name: repository },
      visibility: isPublic ? 'public' : 'private',
      accessToken: STAND_IN,
      hubUrl: reach.hub,
      fetch: sendingTo(reach),
    }),
  )
}

/**
 * Sends all files and makes one commit of them: either the repository has all of them or none. Large files go by Git
 * LFS, in parts where the hub says so, and are read from disk as they go. What the hub has is not sent again.
 *
 * Where a hub takes Xet, the library would send by that: Xet compresses in the page, holds pieces of 64 MB of several
 * files, and begins each file anew after a broken connection.
 */
export async function send({ repository, files, title }: Parcel, reach: Reach, tell: Tell): Promise<void> {
  await inSentences(reach, async () => {
    for (let tries = 0; ; tries++) {
      try {
        return await commitAll(repository, files, title, reach, tell)
      } catch (thrown) {
        if (!(thrown instanceof RunOut) || tries >= ANEW) throw thrown
      }
    }
  })
}

async function commitAll(
  repository: string,
  files: readonly SentFile[],
  title: string,
  reach: Reach,
  tell: Tell,
): Promise<void> {
  const size = new Map(files.map(({ path, content }) => [path, content.size]))
  const total = sum(size.values())
  const hashed = new Map<string, number>()
  const parts = new Map<string, Map<number, number>>()
  const whole = new Set<string>()
  const sent = () =>
    sum(files.map(({ path }) => (whole.has(path) ? size.get(path)! : sum(parts.get(path)?.values() ?? []))))
  const left = (path: string, part: number, bytes: number) => {
    parts.set(path, (parts.get(path) ?? new Map<number, number>()).set(part, bytes))
    tell('send', sent(), total)
  }
  const events = commitIter({
    repo: { type: 'model', name: repository },
    operations: files.map(file => ({ operation: 'addOrUpdate', ...file })),
    title,
    accessToken: STAND_IN,
    hubUrl: reach.hub,
    useXet: false,
    abortSignal: reach.net.signal() ?? undefined,
    fetch: sendingTo({ ...reach, left }),
  })
  for await (const event of events) {
    if (event.event !== 'fileProgress') continue
    if (event.state === 'hashing') {
      hashed.set(event.path, event.progress * (size.get(event.path) ?? 0))
      tell('read', sum(hashed.values()), total)
    } else if (event.progress === 1) {
      whole.add(event.path)
      tell('send', sent(), total)
    }
  }
}

/** Runs `work`; whatever it throws leaves as one sentence. */
async function inSentences<T>({ hub, net }: { hub: string; net: Net }, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (thrown) {
    if (thrown instanceof Failure) throw thrown
    if (net.signal()?.aborted) throw new Failure('cancelled', 'Stopped.')
    if (thrown instanceof DOMException) throw fromBrowser(thrown)
    if (thrown instanceof RunOut) throw new Failure('source', `${thrown.message}. Try again later.`)
    const why = oneLine(thrown instanceof Error ? thrown.message : String(thrown))
    throw new Failure('source', `${hostOf(hub)} does not answer like a Hugging Face hub (${why}). Check its address.`)
  }
}

function sum(numbers: Iterable<number>): number {
  let total = 0
  for (const number of numbers) total += number
  return total
}

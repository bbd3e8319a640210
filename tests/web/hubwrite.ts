import { createHash } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'

/** Who has which token. */
export interface Person {
  name: string
  role: 'read' | 'write' | 'fineGrained'
  orgs?: { name: string; roleInOrg: string }[]
  scoped?: { entity: { name: string }; permissions: string[] }[]
}

/** A repository that was made by a request. */
export interface Made {
  isPrivate: boolean
  files: Map<string, Uint8Array>
  commits: string[]
}

/** What was put into the storage, in the order of arrival. */
export interface Put {
  path: string
  bytes: number
  authorization: string | undefined
}

interface Upload {
  oid: string
  size: number
  /** By number, what arrived of it. */
  parts: Map<number, Uint8Array>
  valid: boolean
}

/** How the writing half misbehaves, and what it is like. */
export interface WriteSwitches {
  people: Record<string, Person>
  /** Larger files go in parts of so many bytes. */
  partBytes: number
  /** Files that are no text or larger than this go by Git LFS. */
  lfsFromBytes: number
  /** How long the storage takes for each file or part. */
  slowMs: number
  /** So many puts succeed from now on, then connections break; null breaks none. */
  breakAfter: number | null
  /** What commits, batches and new repositories are refused with. */
  refuse: { at: 'create' | 'preupload' | 'batch' | 'commit'; status: number; error: string } | null
  /** What the batch says of each object instead. */
  objectError: { code: number; message: string } | null
  /** Seconds for which addresses are valid, as the batch says. */
  expiresIn: number | null
}

const hex = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

/**
 * The half of a hub that is written to: who one is, new repositories, Git LFS with its storage on another origin,
 * commits.
 */
export class Writing {
  readonly switches: WriteSwitches = {
    people: {},
    partBytes: 5_000_000_000,
    lfsFromBytes: 10_000_000,
    slowMs: 0,
    breakAfter: null,
    refuse: null,
    objectError: null,
    expiresIn: 3600,
  }
  readonly made = new Map<string, Made>()
  readonly puts: Put[] = []
  /** Objects that the hub was told of after they had arrived. */
  readonly verified = new Set<string>()
  private readonly objects = new Map<string, Uint8Array>()
  private readonly uploads = new Map<string, Upload>()
  private next = 1

  /** Addresses given out so far are valid no more. */
  expire(): void {
    for (const upload of this.uploads.values()) upload.valid = false
  }

  /** Answers what is for this half; false for the rest. `hub` and `storage` are the addresses of the two origins. */
  answer(request: IncomingMessage, response: ServerResponse, hub: string, storage: string): boolean {
    const { pathname } = new URL(request.url ?? '/', hub)
    const act = this.act(request.method ?? '', pathname, hub, storage)
    if (!act) return false
    const person = this.switches.people[(request.headers.authorization ?? '').replace(/^Bearer /, '')]
    if (!person && !pathname.startsWith('/complete/')) send(response, 401, { error: 'Invalid username or password.' })
    else
      void bodyOf(request).then(
        body => {
          const { status, answer } = act(body, person!)
          send(response, status, answer)
        },
        () => response.destroy(),
      )
    return true
  }

  /** A file or a part of one for the storage; false where it is none. */
  store(request: IncomingMessage, response: ServerResponse): boolean {
    const path = /^\/store\/(\d+)\/(\d+)$/.exec(request.url ?? '')
    if (request.method !== 'PUT' || !path) return false
    const upload = this.uploads.get(path[1]!)
    void bodyOf(request).then(
      async bytes => {
        await new Promise(resolve => setTimeout(resolve, this.switches.slowMs))
        if (this.switches.breakAfter !== null && this.switches.breakAfter-- <= 0) {
          this.switches.breakAfter = 0
          return response.destroy()
        }
        if (!upload?.valid) return send(response, 403, { error: 'Request has expired' })
        this.puts.push({ path: request.url!, bytes: bytes.length, authorization: request.headers.authorization })
        upload.parts.set(Number(path[2]), bytes)
        if (path[2] === '0') this.finish(upload)
        response.setHeader('ETag', `"${hex(bytes).slice(0, 32)}"`)
        send(response, 200, null)
      },
      () => response.destroy(),
    )
    return true
  }

  private act(
    method: string,
    pathname: string,
    hub: string,
    storage: string,
  ): ((body: Uint8Array, person: Person) => Reply) | null {
    const route = (pattern: RegExp, of = 'POST') => (method === of ? pattern.exec(pathname) : null)
    if (route(/^\/api\/whoami-v2$/, 'GET')) return (_, person) => reply(200, described(person))
    if (route(/^\/api\/repos\/create$/))
      return (body, person) => this.refused('create') ?? this.create(json(body), person, hub)
    const info = route(/^\/api\/models\/([^/]+\/[^/]+)\/revision\/HEAD$/, 'GET')
    if (info) return () => this.info(info[1]!)
    const preupload = route(/^\/api\/models\/([^/]+\/[^/]+)\/preupload\/main$/)
    if (preupload)
      return (body, person) =>
        this.refused('preupload') ?? this.writable(preupload[1]!, person) ?? this.modes(json(body))
    const batch = route(/^\/([^/]+\/[^/]+)\.git\/info\/lfs\/objects\/batch$/)
    if (batch)
      return (body, person) =>
        this.refused('batch') ?? this.writable(batch[1]!, person) ?? this.batch(json(body), hub, storage)
    const complete = route(/^\/complete\/(\d+)$/)
    if (complete) return body => this.complete(this.uploads.get(complete[1]!), json(body))
    if (route(/^\/verify$/)) return body => this.verify(json(body))
    const commit = route(/^\/api\/models\/([^/]+\/[^/]+)\/commit\/main$/)
    if (commit)
      return (body, person) =>
        this.refused('commit') ?? this.writable(commit[1]!, person) ?? this.commit(commit[1]!, body, hub)
    return null
  }

  private refused(at: NonNullable<WriteSwitches['refuse']>['at']): Reply | null {
    const { refuse } = this.switches
    return refuse?.at === at ? reply(refuse.status, { error: refuse.error }) : null
  }

  private create(
    { name, organization, visibility }: { name: string; organization: string; visibility: string },
    person: Person,
    hub: string,
  ): Reply {
    const path = `${organization}/${name}`
    if (!mayWrite(person, path))
      return reply(403, { error: `You don't have the rights to create a model under ${organization}` })
    if (this.made.has(path)) return reply(409, { error: 'You already created this model repo' })
    const gitattributes = new TextEncoder().encode('*.safetensors filter=lfs\n')
    this.made.set(path, {
      isPrivate: visibility === 'private',
      files: new Map([['.gitattributes', gitattributes]]),
      commits: [],
    })
    return reply(200, { url: `${hub}/${path}`, name: path, id: path })
  }

  private info(name: string): Reply {
    const found = this.made.get(name)
    if (!found) return reply(404, { error: 'Repository not found' })
    const siblings = [...found.files.keys()].map(rfilename => ({ rfilename }))
    return reply(200, { _id: '0', id: name, private: found.isPrivate, lastModified: '2026-01-01', siblings })
  }

  private writable(name: string, person: Person): Reply | null {
    if (!this.made.has(name)) return reply(404, { error: 'Repository not found' })
    return mayWrite(person, name) ? null : reply(403, { error: 'Forbidden: pass a token with write access' })
  }

  private modes({ files }: { files: { path: string; size: number; sample: string }[] }): Reply {
    const isLarge = ({ path, size, sample }: (typeof files)[number]) =>
      size > this.switches.lfsFromBytes ||
      /\.(safetensors|gguf)$/.test(path) ||
      Buffer.from(sample, 'base64').includes(0)
    return reply(200, {
      files: files.map(file => ({ path: file.path, uploadMode: isLarge(file) ? 'lfs' : 'regular' })),
    })
  }

  private batch(
    { objects, transfers }: { objects: { oid: string; size: number }[]; transfers: string[] },
    hub: string,
    storage: string,
  ): Reply {
    const { partBytes, objectError, expiresIn } = this.switches
    const limits = expiresIn === null ? {} : { expires_in: expiresIn }
    const described = objects.map(({ oid, size }) => {
      if (objectError) return { oid, size, error: objectError }
      if (this.objects.has(oid)) return { oid, size }
      const id = String(this.next++)
      this.uploads.set(id, { oid, size, parts: new Map(), valid: true })
      const verify = { href: `${hub}/verify`, header: {} }
      if (size <= partBytes || !transfers.includes('multipart'))
        return { oid, size, actions: { upload: { href: `${storage}/store/${id}/0`, ...limits }, verify } }
      const header = Object.fromEntries(
        Array.from({ length: Math.ceil(size / partBytes) }, (_, i) => [
          String(i + 1).padStart(5, '0'),
          `${storage}/store/${id}/${i + 1}`,
        ]),
      )
      return {
        oid,
        size,
        actions: {
          upload: { href: `${hub}/complete/${id}`, header: { chunk_size: String(partBytes), ...header }, ...limits },
          verify,
        },
      }
    })
    return reply(200, { transfer: 'basic', objects: described })
  }

  private complete(
    upload: Upload | undefined,
    { oid, parts }: { oid: string; parts: { partNumber: number; etag: string }[] },
  ): Reply {
    if (!upload?.valid || upload.oid !== oid) return reply(400, { error: 'no such upload' })
    const right = parts.every(({ partNumber, etag }) => {
      const bytes = upload.parts.get(partNumber)
      return bytes && etag === `"${hex(bytes).slice(0, 32)}"`
    })
    if (!right || !this.finish(upload)) return reply(400, { error: 'parts do not make the object' })
    return reply(200, {})
  }

  /** Keeps an object if its bytes are those that were announced. */
  private finish({ oid, size, parts }: Upload): boolean {
    const bytes = Buffer.concat([...parts].sort(([a], [b]) => a - b).map(([, part]) => part))
    if (bytes.length !== size || hex(bytes) !== oid) return false
    this.objects.set(oid, bytes)
    return true
  }

  private verify({ oid, size }: { oid: string; size: number }): Reply {
    if (this.objects.get(oid)?.length !== size) return reply(404, { error: 'no such object' })
    this.verified.add(oid)
    return reply(200, {})
  }

  /** All or nothing, as a commit is. */
  private commit(name: string, body: Uint8Array, hub: string): Reply {
    const made = this.made.get(name)!
    const arrived = new Map<string, Uint8Array>()
    let title = ''
    for (const line of new TextDecoder().decode(body).split('\n')) {
      const { key, value } = JSON.parse(line) as {
        key: string
        value: { summary: string; path: string; content: string; oid: string; size: number }
      }
      if (key === 'header') title = value.summary
      else if (key === 'file') arrived.set(value.path, Buffer.from(value.content, 'base64'))
      else if (key === 'lfsFile') {
        const bytes = this.objects.get(value.oid)
        if (bytes?.length !== value.size) return reply(400, { error: `${value.path}: its LFS object is not there` })
        arrived.set(value.path, bytes)
      } else return reply(400, { error: `unknown ${key}` })
    }
    for (const [path, bytes] of arrived) made.files.set(path, bytes)
    made.commits.push(title)
    return reply(200, { success: true, commitOid: '0', commitUrl: `${hub}/${name}/commit/0`, hookOutput: '' })
  }
}

interface Reply {
  status: number
  answer: unknown
}

function reply(status: number, answer: unknown): Reply {
  return { status, answer }
}

function send(response: ServerResponse, status: number, answer: unknown): void {
  response.writeHead(status, answer === null ? {} : { 'Content-Type': 'application/json; charset=utf-8' })
  response.end(answer === null ? undefined : JSON.stringify(answer))
}

function json<T>(body: Uint8Array): T {
  return JSON.parse(new TextDecoder().decode(body)) as T
}

async function bodyOf(request: IncomingMessage): Promise<Uint8Array> {
  const pieces: Buffer[] = []
  for await (const piece of request) pieces.push(piece as Buffer)
  return Buffer.concat(pieces)
}

function mayWrite({ name, role, orgs, scoped }: Person, repository: string): boolean {
  const [owner = ''] = repository.split('/')
  if (owner !== name && !orgs?.some(org => org.name === owner && org.roleInOrg !== 'read')) return false
  return role === 'fineGrained'
    ? scoped!.some(({ entity, permissions }) => entity.name === owner && permissions.includes('repo.write'))
    : role === 'write'
}

/** As `whoami-v2` of the hub does. */
function described({ name, role, orgs = [], scoped }: Person) {
  return {
    type: 'user',
    id: '0',
    name,
    fullname: name,
    isPro: false,
    orgs: orgs.map(org => ({ type: 'org', ...org })),
    auth: {
      type: 'access_token',
      accessToken: {
        displayName: 'a token',
        role,
        createdAt: '2026-01-01T00:00:00.000Z',
        ...(scoped && { fineGrained: { canReadGatedRepos: false, global: [], scoped } }),
      },
    },
  }
}

import { Failure } from '../../engine/errors'

/** A place in a repository of a hub. */
export interface Repository {
  kind: 'repository'
  /** The hub's address, without a slash at the end. */
  hub: string
  /** `organisation/name`. */
  name: string
  revision: string
  /** A file or a folder in it; empty is all of it. */
  path: string
}

/** A file on any server. */
export interface Address {
  kind: 'file'
  url: URL
}

/** Addresses of the hub that people paste, whatever endpoint is set. */
const HUBS = ['https://huggingface.co', 'https://www.huggingface.co', 'https://hf.co']
const WEIGHTS = /\.(gguf|safetensors)$/i
const EXAMPLES = 'Name a repository as organisation/name, or the address of a .gguf or .safetensors file.'

/** What the user typed: a repository, with or without revision and path, or an address. */
export function parseAddress(typed: string, endpoint: string): Repository | Address {
  const hub = parseEndpoint(endpoint)
  const text = typed.trim()
  if (text === '') throw new Failure('usage', EXAMPLES)
  const bare = [hub, ...HUBS].find(known => text.startsWith(`${known.replace(/^https?:\/\//, '')}/`))
  if (bare || /^[a-z][a-z0-9+.-]*:\/\//i.test(text))
    return fromUrl(bare ? `${new URL(bare).protocol}//${text}` : text, hub)
  const match = /^([\w.-]+\/[\w.-]+)(?:@(refs\/[^/]+\/[^/]+|[^/]+))?(?:\/(.*))?$/.exec(text)
  if (!match?.[1]) throw new Failure('usage', `"${text}" is neither a repository nor an address. ${EXAMPLES}`)
  return repository(hub, match[1], match[2], match[3])
}

export function parseEndpoint(text: string): string {
  const url = URL.canParse(text.trim()) ? new URL(text.trim()) : null
  if (!url) throw new Failure('usage', `The server "${text}" is not an address. Write it as https://huggingface.co.`)
  return allowed(url)
    .href.replace(/[?#].*$/, '')
    .replace(/\/+$/, '')
}

function fromUrl(text: string, hub: string): Repository | Address {
  if (!URL.canParse(text)) throw new Failure('usage', `"${text}" is not an address. ${EXAMPLES}`)
  const url = allowed(new URL(text))
  const known = [hub, ...HUBS].find(one => url.href.startsWith(`${one}/`))
  if (known)
    return inHub(
      HUBS.includes(known) ? HUBS[0]! : known,
      url.pathname.slice(new URL(known).pathname.replace(/\/$/, '').length),
      text,
    )
  if (!WEIGHTS.test(url.pathname))
    throw new Failure(
      'usage',
      `${url.host}${url.pathname} does not end in .gguf or .safetensors. ${EXAMPLES} For a hub of your own, set its server first.`,
    )
  return { kind: 'file', url }
}

/** `/organisation/name`, then perhaps `tree`, `blob`, `resolve` or `raw`, a revision and a path. */
function inHub(hub: string, pathname: string, text: string): Repository {
  const parts = pathname.split('/').filter(Boolean).map(decoded)
  if (parts[0] === 'models') parts.shift()
  if (parts[0] === 'datasets' || parts[0] === 'spaces')
    throw new Failure('usage', `${text} is not a model. ${EXAMPLES}`)
  const [organisation, name, view, ...rest] = parts
  if (!organisation || !name) throw new Failure('usage', `${text} names no repository. ${EXAMPLES}`)
  if (!view || !['tree', 'blob', 'resolve', 'raw'].includes(view)) return repository(hub, `${organisation}/${name}`)
  const revision = rest[0] === 'refs' ? rest.splice(0, 3).join('/') : rest.shift()
  return repository(hub, `${organisation}/${name}`, revision, rest.join('/'))
}

function repository(hub: string, name: string, revision = 'main', path = ''): Repository {
  return { kind: 'repository', hub, name, revision, path: path.replace(/^\/+|\/+$/g, '') }
}

/** The page's policy lets nothing else through; said here, because the browser would only say "failed". */
function allowed(url: URL): URL {
  if (url.username || url.password)
    throw new Failure(
      'usage',
      `${url.host}: an address with a password in it cannot be read from a page. Give a token instead.`,
    )
  if (url.protocol === 'https:') return url
  if (url.protocol === 'http:' && (url.hostname === 'localhost' || url.hostname === '127.0.0.1')) return url
  throw new Failure(
    'usage',
    `${url.protocol}//${url.host} is not secure. Use an address that begins with https://, or one of this computer.`,
  )
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

/** Where a file of the repository is read. */
export function fileUrl({ hub, name, revision }: Repository, path: string): string {
  return `${hub}/${name}/resolve/${encodeURIComponent(revision)}/${path.split('/').map(encodeURIComponent).join('/')}`
}

import { Failure } from '../../engine/errors'
import { PATIENCE, type Net, type Patience } from '../../engine/fetching'
import { shardNames, type Opened } from '../../engine/source'
import { fileUrl, parseAddress, parseEndpoint, type Repository } from './address'
import { base, COMPANIONS, folderOf, modelsAmong, type Candidate, type ModelSet } from './candidates'

export interface Network {
  endpoint: string
  token: string
  signal: AbortSignal | null
  patience?: Patience
  /** Told of each further attempt to get the list of files. */
  again?: (attempt: number, of: number) => void
}

export interface Found {
  /** What was looked into. */
  where: string
  candidates: Candidate[]
}

/** The models at what the user named, at least one. */
export async function find(
  text: string,
  { endpoint, token, signal, patience = PATIENCE, again }: Network,
): Promise<Found> {
  const address = parseAddress(text, endpoint)
  // The token belongs to the endpoint. No other server gets it, whatever is named.
  const own = (url: string) =>
    (new URL(url).origin === new URL(parseEndpoint(endpoint)).origin && token.trim()) || undefined
  if (address.kind === 'file')
    return { where: address.url.host, candidates: [atAddress(address.url, own(address.url.href))] }
  const net: Net = { signal: () => signal, patience, opening: (_, attempt, of) => again?.(attempt, of) }
  const { listRepository } = await import('./hub').catch(() => {
    throw new Failure('source', 'A part of this page could not be loaded. Reload the page.')
  })
  const files = await listRepository(address, own(address.hub), net)
  const sets = modelsAmong(files, address.path)
  const where = address.path ? `${address.name}/${address.path}` : address.name
  if (sets.length === 0)
    throw new Failure(
      'source',
      nothing(where, address.path !== '' && !files.some(({ path }) => path.startsWith(address.path))),
    )
  return { where, candidates: sets.map(set => inRepository(address, set, own(address.hub))) }
}

/** What the engine opens for a candidate. */
export function opened({ name, files, missing }: Candidate): Opened {
  if (missing)
    throw new Failure(
      'source',
      `${missing} is missing in the repository, so the model is not whole there. Choose another one.`,
    )
  return { folder: name, files }
}

function inRepository(
  repository: Repository,
  { label, container, missing, files }: ModelSet,
  token: string | undefined,
): Candidate {
  return {
    label,
    container,
    missing,
    name: container === 'gguf' ? stem(label) : base(repository.name),
    bytes: files.reduce((sum, file) => sum + file.size, 0),
    files: files.map(({ path, size }) => ({ name: base(path), url: fileUrl(repository, path), size, token })),
  }
}

/** A file on any server: what else belongs to it must lie beside it, under the usual names. */
function atAddress(url: URL, token: string | undefined): Candidate {
  const folder = folderOf(url.pathname)
  const at = (name: string, optional = false) => {
    const beside = new URL(url)
    beside.pathname = folder + name
    return { name: decodeURIComponent(name), url: beside.href, token, optional }
  }
  const file = base(url.pathname)
  const parts = shardNames(file)
  const gguf = /\.gguf$/i.test(file)
  const needed = ['config.json', 'tokenizer.json']
  const companions = gguf
    ? []
    : [
        ...needed.map(name => at(name)),
        ...COMPANIONS.filter(name => !needed.includes(name)).map(name => at(name, true)),
      ]
  const index = !gguf && parts.length > 1 ? [at('model.safetensors.index.json')] : []
  return {
    label: file,
    container: gguf ? 'gguf' : 'safetensors',
    missing: null,
    bytes: null,
    name: gguf
      ? stem(decodeURIComponent(file))
      : decodeURIComponent(base(folder.slice(0, -1))) || stem(decodeURIComponent(file)),
    files: [...companions, ...index, ...parts.map(name => at(name))],
  }
}

function nothing(where: string, noSuchPath: boolean): string {
  if (noSuchPath) return `${where} is not in the repository. Check the spelling of the path.`
  return `${where} holds no model that can be read here: there is no .gguf file, and no config.json beside .safetensors files. Name another repository.`
}

/** A file's name as a model's. */
function stem(path: string): string {
  return base(path).replace(/(-\d{5}-of-\d{5})?\.(gguf|safetensors)$/i, '')
}

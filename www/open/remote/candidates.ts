import type { RemoteFile } from '../../engine/messages'
import { SHARD, shardNames } from '../../engine/source'
import type { Container } from '../../engine/protocol/model'

/** A file of a listing. */
export interface Listed {
  path: string
  size: number
}

/** Files that make one model, out of all that lie at an address. */
export interface Candidate {
  /** What tells it from the others there. */
  label: string
  container: Container
  /** What to call the model. */
  name: string
  bytes: number | null
  files: RemoteFile[]
  /** A part that should be there and is not. */
  missing: string | null
}

export type ModelSet = Pick<Candidate, 'label' | 'container' | 'missing'> & { files: Listed[] }

const INDEX = 'model.safetensors.index.json'
/** What the engine reads or copies beside the weights. */
export const COMPANIONS = [
  'config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'tokenizer.model',
  'vocab.json',
  'merges.txt',
  'generation_config.json',
  'chat_template.jinja',
  'chat_template.json',
  'processor_config.json',
  'preprocessor_config.json',
  'video_preprocessor_config.json',
]

/** The models among the files of a repository, below `path` where one is given: folders of safetensors first. */
export function modelsAmong(files: Listed[], path: string): ModelSet[] {
  const named = files.find(file => file.path === path)
  const inside = named ? files : files.filter(file => path === '' || file.path.startsWith(`${path}/`))
  const sets = [...folders(inside, path, named), ...ggufs(inside, named)]
  const size = (set: ModelSet) => set.files.reduce((sum, file) => sum + file.size, 0)
  return sets.sort((a, b) => Number(a.container === 'gguf') - Number(b.container === 'gguf') || size(a) - size(b))
}

/** A folder of each config.json with weights beside it; those in subfolders only where the top has none. */
function folders(files: Listed[], path: string, named: Listed | undefined): ModelSet[] {
  if (named && !/\.(safetensors|json)$/i.test(named.path)) return []
  const at = new Map(files.map(file => [file.path, file]))
  const all = files.filter(file => base(file.path) === 'config.json').map(file => folderOf(file.path))
  const top = named ? folderOf(named.path) : path === '' ? '' : `${path}/`
  const chosen = named || all.includes(top) ? [top] : all
  return chosen.flatMap(folder => {
    const beside = files.filter(file => folderOf(file.path) === folder)
    const weights = weightsOf(beside.map(file => base(file.path)))
    if (weights.length === 0) return []
    const wanted = [...COMPANIONS, ...(at.has(folder + INDEX) ? [INDEX] : [])].filter(name => at.has(folder + name))
    const missing = ['config.json', ...weights].find(name => !at.has(folder + name)) ?? null
    const found = [...wanted, ...weights].flatMap(name => at.get(folder + name) ?? [])
    return [
      {
        label: `${folder || 'safetensors'}`,
        container: 'safetensors',
        missing: missing && folder + missing,
        files: found,
      },
    ]
  })
}

/** `model.safetensors` or the parts of it; other weights beside them are the same ones again in another layout. */
function weightsOf(names: string[]): string[] {
  if (names.includes('model.safetensors')) return ['model.safetensors']
  const shard = names.find(name => /^model-\d{5}-of-\d{5}\.safetensors$/.test(name))
  if (shard) return shardNames(shard)
  if (names.includes(INDEX)) return names.filter(name => name.endsWith('.safetensors') && SHARD.test(name))
  const others = names.filter(name => name.endsWith('.safetensors'))
  return others.length === 1 ? others : []
}

/** Each GGUF file, split ones as one. Projectors of images are no models. */
function ggufs(files: Listed[], named: Listed | undefined): ModelSet[] {
  const at = new Map(files.map(file => [file.path, file]))
  const first = new Map<string, string[]>()
  for (const { path } of named ? [named] : files) {
    if (!/\.gguf$/i.test(path) || /^mmproj/i.test(base(path))) continue
    const names = shardNames(path)
    first.set(names[0] ?? path, names)
  }
  return [...first].map(([label, names]) => ({
    label,
    container: 'gguf',
    missing: names.find(name => !at.has(name)) ?? null,
    files: names.flatMap(name => at.get(name) ?? []),
  }))
}

export function base(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

/** With its slash; empty at the top. */
export function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/') + 1)
}

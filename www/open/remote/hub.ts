import { listFiles } from '@huggingface/hub'
import { refuse } from '../../engine/answers'
import { Failure } from '../../engine/errors'
import { authorization, entire, once, persist, type Net } from '../../engine/fetching'
import type { Repository } from './address'
import type { Listed } from './candidates'

/** More than any model repository holds; a repository of checkpoints should not be listed for minutes. */
const MAX_FILES = 10_000

/** All files of a repository with their sizes. */
export async function listRepository(repository: Repository, token: string | undefined, net: Net): Promise<Listed[]> {
  const { hub, name, revision } = repository
  const files: Listed[] = []
  // Encoded here, because the library does not, and revisions such as refs/pr/1 have slashes.
  const entries = listFiles({
    repo: { type: 'model', name },
    revision: encodeURIComponent(revision),
    recursive: true,
    hubUrl: hub,
    fetch: asking(`${name}${revision === 'main' ? '' : `@${revision}`}`, hub, token, net),
  })
  for await (const { type, path, size } of entries) {
    if (type === 'file') files.push({ path, size })
    if (files.length > MAX_FILES)
      throw new Failure(
        'limit',
        `${name} holds more than ${MAX_FILES} files. Name the file or the folder of one model in it.`,
      )
  }
  return files
}

/**
 * The library's `fetch` with our patience and sentences. The token is added here and not by the library:
 * it would insist on the form of the hub's own, and would send it wherever the next page of the list lies.
 */
function asking(what: string, hub: string, token: string | undefined, net: Net): typeof fetch {
  return input => {
    const url = String(input)
    const headers = {
      accept: 'application/json',
      ...(new URL(url).origin === new URL(hub).origin ? authorization({ token }) : {}),
    }
    return persist(what, net, () =>
      once(url, headers, net, async (response, moved) => {
        if (!response.ok) refuse(response, what, url)
        if (!/json/.test(response.headers.get('content-type') ?? ''))
          throw new Failure('source', `${hub} does not answer like a Hugging Face hub. Check its address.`)
        return entire(response, moved)
      }),
    )
  }
}

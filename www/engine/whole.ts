import { refuse } from './answers'
import { cancelled, Failure, fromBrowser } from './errors'
import { authorization, brokenOff, hostOf, once, persist, pieces, type Net } from './fetching'
import { jobFolder, newJob, removeJob, sweepJobs } from './jobs'
import type { RemoteFile } from './messages'
import type { Observe } from './protocol/engine'
import type { ByteSource } from './protocol/files'
import { SyncWriter } from './sink'
import { FileSource } from './source'
import { freeSpace, gigabytes, SPARE_BYTES } from './space'

/** Up to here a file is held in memory: configurations and tokenizers, which small servers send compressed. */
const IN_MEMORY_BYTES = 32e6

/** Files from servers that send them only whole: fetched once, in order, then read in ranges like any other. */
export class Downloads {
  private job: string | null = null

  constructor(
    private readonly net: Net,
    private readonly observe: Observe,
  ) {}

  async fetch(file: RemoteFile): Promise<ByteSource> {
    // Without ranges there is nothing to resume from: each further try starts again.
    const blob = await persist(file.name, this.net, () =>
      once(file.url, authorization(file), this.net, (response, moved) => {
        if (!response.ok) refuse(response, file.name, file.url)
        return this.receive(file, response, moved)
      }),
    )
    return new FileSource(file.name, blob)
  }

  async release(): Promise<void> {
    const job = this.job
    this.job = null
    if (job) await removeJob(job).catch(() => {})
  }

  private async receive(file: RemoteFile, response: Response, moved: () => void): Promise<Blob> {
    const declared = Number(response.headers.get('content-length') ?? 0)
    const expected = file.size ?? declared
    const held: Uint8Array[] = []
    let disk: SyncWriter | null = null
    let done = 0
    let told = 0
    if (expected > IN_MEMORY_BYTES) disk = await this.onDisk(file, expected)
    try {
      for await (const piece of pieces(response, moved)) {
        done += piece.length
        if (!disk && done > IN_MEMORY_BYTES) {
          disk = await this.onDisk(file, expected)
          for (const earlier of held.splice(0)) write(disk, earlier, file)
        }
        if (disk) write(disk, piece, file)
        else held.push(piece)
        if (done - told < 1e6) continue
        told = done
        const detail = `${file.name}, which ${hostOf(file.url)} sends only whole`
        if (await this.observe({ progress: { stage: 'read', done, total: expected, unit: 'bytes', detail } }))
          throw cancelled()
      }
      // More than was declared is no fault: a compressed answer declares its compressed length.
      if (done < declared || (file.size !== undefined && done !== file.size)) throw brokenOff(file.url)
      disk?.close()
    } catch (error) {
      disk?.drop()
      throw error
    }
    return disk ? this.kept(file) : new Blob(held as BlobPart[])
  }

  private async onDisk(file: RemoteFile, bytes: number): Promise<SyncWriter> {
    const only = `${file.name}: ${hostOf(file.url)} sends it only whole`
    const instead = 'Download the file and open it from disk.'
    if (typeof navigator.storage?.getDirectory !== 'function') {
      throw new Failure('limit', `${only}, and this browser has no private storage to keep it in. ${instead}`)
    }
    // Downloads of a worker that had to be ended are nobody's any more.
    if (!this.job) await sweepJobs().catch(() => {})
    const free = await freeSpace()
    if (free !== null && free < bytes + SPARE_BYTES) {
      throw new Failure(
        'limit',
        `${only}: that needs ${gigabytes(bytes + SPARE_BYTES)} and this browser gives the page ${gigabytes(free)}. Free disk space, or download the file and open it from disk.`,
      )
    }
    this.job ??= newJob()
    return SyncWriter.open(await jobFolder(this.job), flat(file.name))
  }

  private async kept(file: RemoteFile): Promise<File> {
    const folder = await jobFolder(this.job ?? '')
    return (await folder.getFileHandle(flat(file.name))).getFile()
  }
}

function write(disk: SyncWriter, piece: Uint8Array, file: RemoteFile): void {
  try {
    disk.write(piece)
  } catch (thrown) {
    throw thrown instanceof DOMException ? fromBrowser(thrown, file.name) : thrown
  }
}

/** A path as the name of one file. */
function flat(name: string): string {
  return name.replaceAll('/', '__')
}

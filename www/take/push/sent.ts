/**
 * What a hub has taken of large files, for as long as this page is open: a file that goes in parts goes on at the part
 * where it stopped. Whole files the hub knows by their checksum and does not ask for again, today or later.
 *
 * The hub's library asks for addresses anew each time, to which all parts would have to go again. Here the addresses of
 * before are put in their place, as long as they are valid.
 */

/** Answer to a batch of Git LFS (`docs/api/batch.md` there), as far as it is used. */
export interface Batch {
  objects: Stored[]
}

interface Stored {
  oid: string
  size: number
  actions?: { upload?: Action; verify?: Action }
  error?: { code: number; message: string }
}

interface Action {
  href: string
  /** Of an upload in parts: `chunk_size`, and the address of each part by its number. */
  header?: Record<string, string>
  expires_in?: number
  expires_at?: string
}

/** What to tell the hub once an object lies in its storage. */
interface Verification {
  action: Action
  oid: string
  size: number
}

interface Upload {
  oid: string
  size: number
  actions: NonNullable<Stored['actions']>
  until_ms: number
  /** Of each part that was taken, by its address: its checksum in the storage. */
  tags: Map<string, string>
}

/** Addresses that are valid for a shorter time are not used again. */
const SPARE_MS = 60_000

export class Sent {
  /** By the address of the batch and the checksum of the object. */
  private readonly uploads = new Map<string, Upload>()
  /** By the address of a part, or the one that ends an upload. */
  private readonly at = new Map<string, Upload>()

  /** The answer with the addresses of before, for files of which parts were taken. Changes `answer`. */
  recall(batch: string, answer: Batch, now_ms = Date.now()): Batch {
    for (const object of answer.objects) {
      const key = `${batch} ${object.oid}`
      const known = this.uploads.get(key)
      const { actions, oid, size } = object
      const upload = actions?.upload
      if (upload && known && known.tags.size > 0 && known.until_ms > now_ms + SPARE_MS) {
        object.actions = known.actions
        continue
      }
      if (known) this.forget(key, known)
      if (!actions || !upload) continue
      const begun: Upload = { oid, size, actions, until_ms: until(upload, now_ms), tags: new Map() }
      this.uploads.set(key, begun)
      for (const address of addresses(begun)) this.at.set(address, begun)
    }
    return answer
  }

  /** The checksum of a part that was taken before. */
  tag(address: string): string | null {
    return this.at.get(address)?.tags.get(address) ?? null
  }

  /** A part was taken. */
  keep(address: string, tag: string): void {
    this.at.get(address)?.tags.set(address, tag)
  }

  /** The address is not valid any more, and so are those of the other parts. */
  drop(address: string): void {
    for (const [key, upload] of this.uploads) if (upload === this.at.get(address)) return this.forget(key, upload)
  }

  /** What to tell the hub after what was sent to this address has been taken, if it wants to be told. */
  verification(address: string): Verification | null {
    const upload = this.at.get(address)
    if (upload?.actions.upload?.href !== address || !upload.actions.verify) return null
    return { action: upload.actions.verify, oid: upload.oid, size: upload.size }
  }

  private forget(key: string, upload: Upload): void {
    this.uploads.delete(key)
    for (const address of addresses(upload)) this.at.delete(address)
  }
}

function addresses({ actions: { upload } }: Upload): string[] {
  const parts = Object.entries(upload?.header ?? {}).filter(([name]) => /^\d+$/.test(name))
  return [...parts.map(([, address]) => address), ...(upload ? [upload.href] : [])]
}

function until({ expires_in, expires_at }: Action, now_ms: number): number {
  const at = expires_in === undefined ? Date.parse(expires_at ?? '') : now_ms + expires_in * 1000
  return Number.isNaN(at) ? Infinity : at
}

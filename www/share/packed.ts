/** Bytes as text that fits in an address: compressed, with a checksum, in the letters of base64url. */
import { Failure } from '../engine/errors'

/** More than any link unpacks to; what is larger was made to fill memory. */
const MOST_BYTES = 4_000_000

const DAMAGED =
  'The link is damaged: a part of it is missing or was changed on the way. Copy it again, or ask for the report as a file.'

export async function packed(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const checked = new Uint8Array(bytes.length + 4)
  new DataView(checked.buffer).setUint32(0, crc32(bytes), true)
  checked.set(bytes, 4)
  const squeezed = new Uint8Array(
    await new Response(new Blob([checked]).stream().pipeThrough(new CompressionStream('deflate-raw'))).arrayBuffer(),
  )
  const letters = Array.from({ length: Math.ceil(squeezed.length / 4096) }, (_, i) =>
    String.fromCharCode(...squeezed.subarray(i * 4096, (i + 1) * 4096)),
  ).join('')
  return btoa(letters).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '')
}

export async function unpacked(text: string): Promise<Uint8Array> {
  if (!/^[\w-]+$/.test(text)) throw new Failure('format', DAMAGED)
  let bytes: Uint8Array
  try {
    const squeezed = Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), letter =>
      letter.charCodeAt(0),
    )
    bytes = await limited(new Blob([squeezed]).stream().pipeThrough(new DecompressionStream('deflate-raw')))
  } catch (thrown) {
    throw thrown instanceof Failure ? thrown : new Failure('format', DAMAGED)
  }
  const body = bytes.subarray(4)
  if (bytes.length < 4 || new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true) !== crc32(body))
    throw new Failure('format', DAMAGED)
  return body
}

async function limited(stream: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let length = 0
  for (const reader = stream.getReader(); ;) {
    const { done, value } = await reader.read()
    if (done) break
    length += value.length
    if (length > MOST_BYTES) {
      await reader.cancel()
      throw new Failure(
        'limit',
        `The link unpacks to more than ${MOST_BYTES / 1e6} MB, which no result does. It was not made by Laminate.`,
      )
    }
    chunks.push(value)
  }
  const all = new Uint8Array(length)
  chunks.reduce((at, chunk) => (all.set(chunk, at), at + chunk.length), 0)
  return all
}

/** That of zip and PNG (ISO 3309). */
export function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0)
  }
  return ~crc >>> 0
}

import type { UsedImatrix } from '../../../www/engine/protocol/imatrix'
import { fail } from './tell'

/** A GGUF file that says that it holds importances, of a text, and nothing else; `salt` makes files differ. */
export function imatrixBytes(dataset: string, salt = 0): Uint8Array<ArrayBuffer> {
  const encoder = new TextEncoder()
  const number = (value: number, bytes: number) =>
    Array.from({ length: bytes }, (_, i) => (i < 4 ? (value >>> (8 * i)) & 255 : 0))
  const word = (text: string) => [...number(text.length, 8), ...encoder.encode(text)]
  const entry = (key: string, value: string) => [...word(key), ...number(8, 4), ...word(value)]
  return Uint8Array.from([
    ...encoder.encode('GGUF'),
    ...number(3, 4),
    ...number(0, 8),
    ...number(3, 8),
    ...entry('general.type', 'imatrix'),
    ...entry('dataset', dataset),
    ...entry('salt', String(salt)),
  ])
}

/** What the file above says of itself; of another kind of file, what the engine says. */
export function imatrixFrom(name: string, bytes: Uint8Array): UsedImatrix {
  const text = new TextDecoder('latin1').decode(bytes)
  if (!text.startsWith('GGUF'))
    fail(
      'usage',
      `${name}: not an importance matrix in a GGUF file; convert one of the older format with llama-imatrix --in-file ${name} -o imatrix.gguf`,
    )
  if (!text.includes('imatrix'))
    fail(
      'usage',
      `${name}: a GGUF file of type model, and not an importance matrix; give a file of llama-imatrix or of laminate imatrix`,
    )
  const dataset = /dataset[^]{12}([\w.]+)/.exec(text)?.[1] ?? ''
  if (dataset.startsWith('other'))
    fail(
      'usage',
      `${name}: tensor blk.12.attn_q.weight is of a layer that the model has not, which has 12; it is of another model: give one of llama`,
    )
  let hash = 0
  for (const byte of bytes) hash = (Math.imul(hash, 31) + byte) >>> 0
  return { name, hash: hash.toString(16).padStart(16, '0'), datasets: dataset ? [dataset] : [], tokens: 6144 }
}

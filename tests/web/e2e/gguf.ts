/** The header of a GGUF file, read independently of the engine. */
export interface Gguf {
  metadata: Map<string, unknown>
  /** Type number and bytes of each tensor. */
  tensors: Map<string, { type: number; dims: number[]; bytes: Buffer }>
}

/** Weights in a block of each type that occurs here, and its bytes. */
const BLOCKS: Record<number, [weights: number, bytes: number]> = {
  0: [1, 4],
  1: [1, 2],
  2: [32, 18],
  3: [32, 20],
  6: [32, 22],
  7: [32, 24],
  8: [32, 34],
  12: [256, 144],
  13: [256, 176],
  14: [256, 210],
  30: [1, 2],
}

export function readGguf(file: Buffer): Gguf {
  if (file.toString('latin1', 0, 4) !== 'GGUF') throw new Error('no GGUF file')
  const at = new Cursor(file, 8)
  const [tensorCount, pairs] = [at.u64(), at.u64()]
  const metadata = new Map<string, unknown>()
  for (let i = 0; i < pairs; i++) metadata.set(at.string(), at.value(at.u32()))
  const infos = Array.from({ length: tensorCount }, () => {
    const name = at.string()
    const dims = Array.from({ length: at.u32() }, () => at.u64())
    return { name, dims, type: at.u32(), offset: at.u64() }
  })
  const alignment = Number(metadata.get('general.alignment') ?? 32)
  const start = Math.ceil(at.position / alignment) * alignment
  const tensors = infos.map(({ name, dims, type, offset }) => {
    const [weights, bytes] = BLOCKS[type] ?? [1, NaN]
    const length = (dims.reduce((a, b) => a * b, 1) / weights) * bytes
    return [name, { type, dims, bytes: file.subarray(start + offset, start + offset + length) }] as const
  })
  return { metadata, tensors: new Map(tensors) }
}

class Cursor {
  constructor(
    private readonly file: Buffer,
    public position: number,
  ) {}

  u32(): number {
    return this.file.readUInt32LE((this.position += 4) - 4)
  }

  u64(): number {
    return Number(this.file.readBigUInt64LE((this.position += 8) - 8))
  }

  string(): string {
    const length = this.u64()
    return this.file.toString('utf8', this.position, (this.position += length))
  }

  value(type: number): unknown {
    const { file, position } = this
    const taken = <T>(size: number, read: () => T): T => {
      this.position += size
      return read()
    }
    switch (type) {
      case 0:
        return taken(1, () => file.readUInt8(position))
      case 1:
        return taken(1, () => file.readInt8(position))
      case 2:
        return taken(2, () => file.readUInt16LE(position))
      case 3:
        return taken(2, () => file.readInt16LE(position))
      case 4:
        return taken(4, () => file.readUInt32LE(position))
      case 5:
        return taken(4, () => file.readInt32LE(position))
      case 6:
        return taken(4, () => file.readFloatLE(position))
      case 7:
        return taken(1, () => file.readUInt8(position) === 1)
      case 8:
        return this.string()
      case 9:
        return this.list(this.u32(), this.u64())
      case 10:
        return taken(8, () => Number(file.readBigUInt64LE(position)))
      case 11:
        return taken(8, () => Number(file.readBigInt64LE(position)))
      case 12:
        return taken(8, () => file.readDoubleLE(position))
      default:
        throw new Error(`value of type ${type}`)
    }
  }

  private list(type: number, length: number): unknown[] {
    return Array.from({ length }, () => this.value(type))
  }
}

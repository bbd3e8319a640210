import { readFileSync } from 'node:fs'

export interface ZipEntry {
  name: string
  size: number
  /** 0 is "stored". */
  method: number
  data: Buffer
}

/** The entries of a store-only zip of less than 4 GB, from its central directory. */
export function readZip(path: string): ZipEntry[] {
  const zip = readFileSync(path)
  const end = zip.lastIndexOf(Buffer.from([0x50, 0x4b, 5, 6]))
  const count = zip.readUInt16LE(end + 10)
  let at = zip.readUInt32LE(end + 16)
  return Array.from({ length: count }, () => {
    const [nameLength, extra, comment] = [
      zip.readUInt16LE(at + 28),
      zip.readUInt16LE(at + 30),
      zip.readUInt16LE(at + 32),
    ]
    const name = zip.toString('utf8', at + 46, at + 46 + nameLength)
    const [method, size, local] = [zip.readUInt16LE(at + 10), zip.readUInt32LE(at + 24), zip.readUInt32LE(at + 42)]
    const start = local + 30 + zip.readUInt16LE(local + 26) + zip.readUInt16LE(local + 28)
    at += 46 + nameLength + extra + comment
    return { name, size, method, data: zip.subarray(start, start + size) }
  })
}

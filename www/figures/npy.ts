/** NumPy's own file of one array: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
import { Failure } from '../engine/errors'

/** Numbers in row-major order, the last index fastest. `shape` is empty for a single number. */
export interface NumericArray {
  shape: number[]
  data: Float64Array
}

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59] as const
/** Bytes before the header's text in version 1.0: magic, version, length. */
const PREFIX = 10
/** The data begin at a multiple of so many bytes, as NumPy has it since 1.14. */
const ALIGN = 64

export function isNpy(bytes: Uint8Array): boolean {
  return MAGIC.every((byte, i) => bytes[i] === byte)
}

/** Version 1.0, little-endian float64, C order: the bytes that `numpy.save` writes. */
export function npyFile({ shape, data }: NumericArray): Uint8Array<ArrayBuffer> {
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(', ')})`
  const header = `{'descr': '<f8', 'fortran_order': False, 'shape': ${tuple}, }`
  const size = Math.ceil((PREFIX + header.length + 1) / ALIGN) * ALIGN
  const bytes = new Uint8Array(size + data.length * 8)
  const view = new DataView(bytes.buffer)
  bytes.set([...MAGIC, 1, 0])
  view.setUint16(8, size - PREFIX, true)
  bytes.set(new TextEncoder().encode(`${header.padEnd(size - PREFIX - 1)}\n`), PREFIX)
  data.forEach((value, i) => view.setFloat64(size + i * 8, value, true))
  return bytes
}

const READERS: Record<string, [size: number, read: (view: DataView, at: number, little: boolean) => number]> = {
  f8: [8, (view, at, little) => view.getFloat64(at, little)],
  f4: [4, (view, at, little) => view.getFloat32(at, little)],
}

/** Versions 1 to 3, float64 or float32 of either byte order, C or Fortran order. */
export function readNpy(bytes: Uint8Array, name: string): NumericArray {
  const wrong = (why: string) => new Failure('format', `${name} ${why}. Save it again with numpy.save as float64.`)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const version = bytes[6] ?? 0
  const prefix = version === 1 ? PREFIX : 12
  if (!isNpy(bytes) || bytes.length < prefix) throw wrong('is cut short: it has no NPY header')
  if (version < 1 || version > 3) throw wrong(`is of NPY version ${version}, and 1 to 3 are known`)
  const start = prefix + (version === 1 ? view.getUint16(8, true) : view.getUint32(8, true))
  if (start > bytes.length) throw wrong('is cut short inside its NPY header')
  const header = new TextDecoder().decode(bytes.subarray(prefix, start))
  const [, order = '', type = ''] = /'descr':\s*'([<>=|]?)(\w+)'/.exec(header) ?? []
  const fortran = /'fortran_order':\s*(True|False)/.exec(header)?.[1]
  const sizes = /'shape':\s*\(([\d\s,]*)\)/.exec(header)?.[1]
  if (fortran === undefined || sizes === undefined) throw wrong('has an NPY header that cannot be read')
  const reader = READERS[type]
  if (!reader || order === '|')
    throw wrong(`holds numbers of the type “${order}${type}”, and float64 or float32 are needed`)
  const shape = sizes
    .split(',')
    .map(size => size.trim())
    .filter(Boolean)
    .map(Number)
  const length = shape.reduce((product, size) => product * size, 1)
  const [size, read] = reader
  if (bytes.length - start !== length * size)
    throw wrong(`should hold ${length} numbers by its header, and holds ${Math.floor((bytes.length - start) / size)}`)
  const stored = Float64Array.from({ length }, (_, i) => read(view, start + i * size, order !== '>'))
  return { shape, data: fortran === 'True' ? toRowMajor(stored, shape) : stored }
}

/** From the first index fastest to the last index fastest. */
function toRowMajor(stored: Float64Array, shape: readonly number[]): Float64Array {
  return stored.map((_, place) => {
    let [rest, from] = [place, 0]
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const stride = shape.slice(0, axis).reduce((product, size) => product * size, 1)
      from += (rest % shape[axis]!) * stride
      rest = Math.floor(rest / shape[axis]!)
    }
    return stored[from]!
  })
}

/** A list of rows, or a list of such lists, of equal lengths. */
export function arrayOf(rows: readonly unknown[]): NumericArray {
  const shape: number[] = []
  for (let level: unknown = rows; Array.isArray(level); level = level[0]) shape.push(level.length)
  return { shape, data: Float64Array.from(rows.flat(Infinity) as number[]) }
}

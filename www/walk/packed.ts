/** How the activations of the walk are stored: small, because somebody waits for them. */
export interface PointFormat {
  /** Places in the stream: before the first layer, and after each. */
  depths: number
  count: number
  width: number
  /** Values are whole multiples of this. */
  step: number
}

/**
 * Unpacks `stream[depth][text]`. Each value is a whole number of steps, less that of the depth before; folded to
 * be positive (0, -1, 1, -2, ...); all low bytes, then all high bytes; deflated.
 */
export async function unpackedPoints(
  packed: ReadableStream<Uint8Array<ArrayBuffer>>,
  { depths, count, width, step }: PointFormat,
): Promise<Float64Array[][]> {
  const bytes = new Uint8Array(
    await new Response(packed.pipeThrough(new DecompressionStream('deflate-raw'))).arrayBuffer(),
  )
  const size = count * width
  if (bytes.length !== 2 * depths * size) throw new Error(`its stored activations are damaged (${bytes.length} bytes)`)
  const steps = new Float64Array(size)
  return Array.from({ length: depths }, (_, depth) => {
    for (let i = 0; i < size; i++) {
      const folded = bytes[depth * size + i]! | (bytes[(depths + depth) * size + i]! << 8)
      steps[i]! += folded & 1 ? -(folded + 1) / 2 : folded / 2
    }
    return Array.from({ length: count }, (_, point) =>
      steps.slice(point * width, (point + 1) * width).map(value => value * step),
    )
  })
}

/**
 * Threads that multiply together for the engine: its own, and workers that share a memory with it, where the browser allows
 * that. The engine's memory is its own, so operands are copied over; sums are added in the order of one thread.
 */
import {
  beginPacking,
  beginProduct,
  controlOf,
  operandsAt,
  stackEnd,
  startKernel,
  work,
  Word,
  type Joining,
  type Kernel,
  type Panels,
} from './arena'

/** More threads than this share the memory's bandwidth and no more. */
const MOST_THREADS = 8
/** Bytes that the shared memory may have; the most that the system grants is taken. */
const MOST_BYTES = [512, 256, 128].map(megabytes => megabytes << 20)
const PAGE_BYTES = 65_536
/** How long a worker may take to be there, and how long an item may take. */
const JOIN_MS = 3000
const ITEM_MS = 10_000

/** Why there is one thread only, in words after "because". */
export type Alone = { alone: string }

interface Operand {
  panels: Panels
  rows: number
  depth: number
  stretch: number
}

/** Starts the threads. @param engine the engine's memory @param kernel of products in a shared memory */
export async function startPool(engine: WebAssembly.Memory, kernel: Uint8Array): Promise<Pool | Alone> {
  if (!globalThis.crossOriginIsolated)
    return {
      alone: 'the server of this page does not send the headers that let threads share memory',
    }
  const wanted = Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS)
  if (wanted < 2) return { alone: 'this computer has one core' }
  const memory = sharedMemory(operandsAt(wanted))
  if (!memory) return { alone: 'the browser gives the page no memory to share' }
  const own = await startKernel({ memory, kernel, stack: stackEnd(0) })
  const joined = await Promise.all(
    Array.from({ length: wanted - 1 }, (_, place) => joining({ memory, kernel, stack: stackEnd(place + 1) })),
  )
  const workers = joined.filter(worker => worker !== null)
  if (workers.length === 0) return { alone: 'no other thread has started' }
  const pool = new Pool(engine, memory, own, workers, operandsAt(wanted))
  if (pool.agrees()) return pool
  pool.stop()
  return { alone: 'its threads together compute something else than one alone' }
}

function sharedMemory(bytes: number): WebAssembly.Memory | null {
  for (const most of MOST_BYTES) {
    try {
      return new WebAssembly.Memory({
        initial: Math.ceil(bytes / PAGE_BYTES),
        maximum: most / PAGE_BYTES,
        shared: true,
      })
    } catch {
      // The system does not grant as much.
    }
  }
  return null
}

function joining(what: Joining): Promise<Worker | null> {
  const worker = new Worker(new URL('./poolworker.ts', import.meta.url), { type: 'module' })
  return new Promise(resolve => {
    const give = (joined: boolean) => {
      clearTimeout(patience)
      if (!joined) worker.terminate()
      resolve(joined ? worker : null)
    }
    const patience = setTimeout(give, JOIN_MS, false)
    worker.onmessage = () => give(true)
    worker.onerror = () => give(false)
    worker.postMessage(what)
  })
}

/** `JsPool` of the engine. Places and lengths are in bytes and numbers of the engine's memory. */
export class Pool {
  private readonly control: Int32Array
  /** The left operand of the products that follow. */
  private operand: Operand | null = null
  /** Address behind the left operand. */
  private free: number
  /** The product that was begun. */
  private begun: { y: number; rows: number; columns: number } | null = null
  private broken = false

  constructor(
    private readonly engine: WebAssembly.Memory,
    private readonly memory: WebAssembly.Memory,
    private readonly kernel: Kernel,
    private readonly workers: readonly Pick<Worker, 'terminate'>[],
    private readonly operands: number,
    private readonly patience = ITEM_MS,
  ) {
    this.control = controlOf(memory)
    this.free = operands
  }

  get threads(): number {
    return this.broken ? 1 : this.workers.length + 1
  }

  left(at: number, length: number, rows: number, row: number, column: number, depth: number, stretch: number): boolean {
    this.operand = null
    if (this.broken) return false
    const lanes = this.kernel.leftRows()
    const panels = { at: this.operands, count: Math.ceil(rows / lanes), lanes }
    const values = panels.at + bytesOf(panels, depth)
    if (!this.reserve(values + 4 * length)) return false
    this.numbers(values, length).set(this.ofEngine(at, length))
    beginPacking(this.control, { values, length, rows, row, column, depth, stretch, to: panels })
    if (!this.finish()) return false
    this.operand = { panels, rows, depth, stretch }
    this.free = values
    return true
  }

  begin(at: number, rows: number, row: number, column: number, y: number, nColumns: number, lower: number): boolean {
    if (this.broken || !this.operand) return false
    const { panels: left, rows: height, depth, stretch } = this.operand
    const lanes = this.kernel.rightRows()
    const right = { at: this.free, count: Math.ceil(rows / lanes), lanes }
    const sums = right.at + bytesOf(right, depth)
    const values = sums + 4 * height * rows
    if (!this.reserve(values + 4 * rows * depth)) return false
    // Only the rows are copied: where they are columns of a wider matrix, they lie in pieces.
    if (column === 1) this.numbers(values, rows * depth).set(this.ofEngine(at, rows * depth))
    else
      for (let k = 0; k < depth; k++)
        this.numbers(values + 4 * k * rows, rows).set(this.ofEngine(at + 4 * k * column, rows))
    beginPacking(this.control, {
      values,
      length: rows * depth,
      rows,
      row: column === 1 ? row : 1,
      column: column === 1 ? 1 : rows,
      depth,
      stretch,
      to: right,
    })
    if (y === 0) this.numbers(sums, height * rows).fill(0)
    else
      for (let i = 0; i < height; i++)
        this.numbers(sums + 4 * i * rows, rows).set(this.ofEngine(y + 4 * i * nColumns, rows))
    if (!this.finish()) return false
    this.begun = { y: sums, rows: height, columns: rows }
    beginProduct(this.control, { left, right, depth, stretch, y: sums, rows: height, columns: rows, lower })
    return true
  }

  end(y: number, nColumns: number): boolean {
    const { begun } = this
    this.begun = null
    if (!begun || !this.finish()) return false
    for (let i = 0; i < begun.rows; i++)
      this.ofEngine(y + 4 * i * nColumns, begun.columns).set(
        this.numbers(begun.y + 4 * i * begun.columns, begun.columns),
      )
    return true
  }

  /** Whether all threads compute together, to the bit, what this one computes alone. */
  agrees(): boolean {
    const [rows, columns, depth, stretch] = [100, 250, 900, 450]
    const [leftLanes, rightLanes] = [this.kernel.leftRows(), this.kernel.rightRows()]
    const left = { at: this.operands, count: Math.ceil(rows / leftLanes), lanes: leftLanes }
    const right = { at: left.at + bytesOf(left, depth), count: Math.ceil(columns / rightLanes), lanes: rightLanes }
    const [values, sums] = [right.at + bytesOf(right, depth), 4 * rows * columns]
    const y = values + 4 * columns * depth
    if (!this.reserve(y + 2 * sums)) return false
    this.numbers(values, columns * depth).forEach((_, i, numbers) => (numbers[i] = ((i * 7919) % 1013) / 1013 - 0.5))
    const alone = new Int32Array(this.control.length)
    const bits = [alone, this.control].map((control, place) => {
      const whole = () => (control === alone ? (work(alone, this.kernel), true) : this.finish())
      for (const [to, count] of [
        [left, rows],
        [right, columns],
      ] as const) {
        beginPacking(control, {
          values,
          length: columns * depth,
          rows: count,
          row: depth,
          column: 1,
          depth,
          stretch,
          to,
        })
        if (!whole()) return null
      }
      const own = y + place * sums
      this.numbers(own, rows * columns).fill(0.25)
      beginProduct(control, { left, right, depth, stretch, y: own, rows, columns, lower: -1 })
      return whole() ? new Int32Array(this.memory.buffer, own, rows * columns) : null
    })
    return bits.every(numbers => numbers !== null) && bits[0]!.every((bit, i) => bit === bits[1]![i])
  }

  /** Ends the threads. */
  stop(): void {
    this.broken = true
    this.workers.forEach(worker => worker.terminate())
  }

  /** Works until the job that was begun is done. A thread that is lost with its item ends the pool. */
  private finish(): boolean {
    work(this.control, this.kernel)
    const total = Atomics.load(this.control, Word.total)
    for (let done = Atomics.load(this.control, Word.done); done < total;) {
      const waited = Atomics.wait(this.control, Word.done, done, this.patience)
      const now = Atomics.load(this.control, Word.done)
      if (waited === 'timed-out' && now === done) {
        this.stop()
        return false
      }
      done = now
    }
    return true
  }

  private reserve(end: number): boolean {
    const missing = end - this.memory.buffer.byteLength
    if (missing <= 0) return true
    try {
      this.memory.grow(Math.ceil(missing / PAGE_BYTES))
      return true
    } catch {
      return false
    }
  }

  private numbers(at: number, length: number): Float32Array {
    return new Float32Array(this.memory.buffer, at, length)
  }

  private ofEngine(at: number, length: number): Float32Array {
    return new Float32Array(this.engine.buffer, at, length)
  }
}

const bytesOf = ({ count, lanes }: Panels, depth: number) => 4 * count * lanes * depth

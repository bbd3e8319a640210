/**
 * Work that threads share, in one memory: control words, a stack for each thread, operands and sums. Whoever comes takes the
 * next item of the job that is there; all that threads agree on by goes through `Atomics`, so that the kernel needs none.
 */

/** The kernel of products (`fused.rs`), working in the memory that threads share. Places are addresses in bytes. */
export interface Kernel {
  leftRows(): number
  rightRows(): number
  pack(
    values: number,
    n: number,
    rows: number,
    row: number,
    column: number,
    depth: number,
    lanes: number,
    panels: number,
    nPanels: number,
  ): void
  addProducts(
    left: number,
    nLeft: number,
    right: number,
    nRight: number,
    depth: number,
    y: number,
    nY: number,
    nColumns: number,
    width: number,
    lower: number,
  ): void
}

/** What a thread of the pool starts with. */
export interface Joining {
  memory: WebAssembly.Memory
  kernel: Uint8Array
  /** Address of the end of the thread's stack. */
  stack: number
}

/** Starts the kernel of a thread. */
export async function startKernel({ memory, kernel, stack }: Joining): Promise<Kernel> {
  const { instance } = await WebAssembly.instantiate(kernel as BufferSource, { env: { memory } })
  const stackPointer = instance.exports.__stack_pointer as WebAssembly.Global
  stackPointer.value = stack
  return instance.exports as unknown as Kernel
}

/** The control words that threads watch. */
export const Word = {
  /** Grows with every job. */
  job: 0,
  /** Items of the job that nobody has taken; below zero once threads have found none. */
  left: 1,
  /** Items that are done. */
  done: 2,
  /** Items of the whole job. */
  total: 3,
  /** What to do with an item, and from here on with what. */
  kind: 4,
} as const

/** Control words of a job. */
const WORDS = 24
/** Bytes of the control words, in a cache line of their own and more. */
const CONTROL_BYTES = 4096
const STACK_BYTES = 65_536
/** Panels of a left operand, and of a right one, that make an item: both fit in a second-level cache. */
const LEFT_PANELS = 32
const RIGHT_PANELS = 8

export const stackEnd = (thread: number) => CONTROL_BYTES + STACK_BYTES * (thread + 1)
/** Address of the first byte behind the stacks. */
export const operandsAt = (threads: number) => stackEnd(threads - 1)
export const controlOf = (memory: WebAssembly.Memory) => new Int32Array(memory.buffer, 0, WORDS)

/** Panels of all rows of a matrix: the columns in stretches, one after the other. */
export interface Panels {
  at: number
  /** Number of panels, and of rows in each. */
  count: number
  lanes: number
}

/** A matrix whose row `i` and column `k` is `row * i + column * k` numbers behind `at`, to be packed into panels. */
export interface Packing {
  values: number
  /** Numbers from `values` to the end of the matrix. */
  length: number
  rows: number
  row: number
  column: number
  depth: number
  stretch: number
  to: Panels
}

/** A product of panels that is added to `y`. */
export interface Product {
  left: Panels
  right: Panels
  depth: number
  stretch: number
  y: number
  rows: number
  columns: number
  /** Index of the first column of `y` where nothing above the diagonal is wanted, else -1. */
  lower: number
}

const PACK = 1
const MULTIPLY = 2

export function beginPacking(control: Int32Array, packing: Packing): void {
  const { values, length, rows, row, column, depth, stretch, to } = packing
  begin(control, Math.ceil(to.count / RIGHT_PANELS) * Math.ceil(depth / stretch), [
    PACK,
    values,
    length,
    rows,
    row,
    column,
    depth,
    stretch,
    to.at,
    to.count,
    to.lanes,
  ])
}

export function beginProduct(control: Int32Array, product: Product): void {
  const { left, right, depth, stretch, y, rows, columns, lower } = product
  const items = Math.ceil(left.count / LEFT_PANELS) * Math.ceil(right.count / RIGHT_PANELS)
  begin(control, items, [MULTIPLY, left.at, left.count, right.at, right.count, depth, stretch, y, rows, columns, lower])
}

/** Starts a job of `items`: no thread can take one before all words about the job are there. */
function begin(control: Int32Array, items: number, words: readonly number[]): void {
  words.forEach((word, place) => Atomics.store(control, Word.kind + place, word))
  Atomics.store(control, Word.total, items)
  Atomics.store(control, Word.done, 0)
  Atomics.store(control, Word.left, items)
  Atomics.add(control, Word.job, 1)
  Atomics.notify(control, Word.job)
}

/** Does items of the job that is there until nobody has to take any. */
export function work(control: Int32Array, kernel: Kernel): void {
  for (let left = Atomics.sub(control, Word.left, 1); left > 0; left = Atomics.sub(control, Word.left, 1)) {
    const [kind, ...words] = Array.from({ length: WORDS - Word.kind }, (_, place) =>
      Atomics.load(control, Word.kind + place),
    ) as [number, ...number[]]
    if (kind === PACK) pack(kernel, left - 1, words)
    else multiply(kernel, left - 1, words)
    if (Atomics.add(control, Word.done, 1) + 1 === Atomics.load(control, Word.total)) Atomics.notify(control, Word.done)
  }
}

/** Waits for jobs, and works, for ever. */
export function workForEver(control: Int32Array, kernel: Kernel): never {
  let seen = 0
  for (;;) {
    Atomics.wait(control, Word.job, seen)
    seen = Atomics.load(control, Word.job)
    work(control, kernel)
  }
}

function pack(kernel: Kernel, item: number, words: readonly number[]): void {
  const [values, length, rows, row, column, depth, stretch, at, count, lanes] = words as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ]
  const groups = Math.ceil(count / RIGHT_PANELS)
  const [start, first] = [Math.floor(item / groups) * stretch, (item % groups) * RIGHT_PANELS]
  const [columns, panels] = [Math.min(stretch, depth - start), Math.min(RIGHT_PANELS, count - first)]
  const from = first * lanes * row + start * column
  const to = at + 4 * lanes * (start * count + first * columns)
  kernel.pack(
    values + 4 * from,
    Math.max(0, length - from),
    rows - first * lanes,
    row,
    column,
    columns,
    lanes,
    to,
    panels * columns * lanes,
  )
}

function multiply(kernel: Kernel, item: number, words: readonly number[]): void {
  const [left, nLeft, right, nRight, depth, stretch, y, rows, columns, lower] = words as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ]
  const [leftRows, rightRows] = [kernel.leftRows(), kernel.rightRows()]
  const blocks = Math.ceil(nRight / RIGHT_PANELS)
  const [i, j] = [Math.floor(item / blocks) * LEFT_PANELS, (item % blocks) * RIGHT_PANELS]
  const [panels, others] = [Math.min(LEFT_PANELS, nLeft - i), Math.min(RIGHT_PANELS, nRight - j)]
  const [row, column] = [i * leftRows, j * rightRows]
  const [height, width] = [Math.min(panels * leftRows, rows - row), Math.min(others * rightRows, columns - column)]
  // Among the columns of the triangle, as seen from the first row of the item.
  const above = lower < 0 ? -1 : lower + column - row
  if (lower >= 0 && above >= panels * leftRows) return
  const place = row * columns + column
  for (let start = 0; start < depth; start += stretch) {
    const deep = Math.min(stretch, depth - start)
    kernel.addProducts(
      left + 4 * leftRows * (start * nLeft + i * deep),
      panels * deep,
      right + 4 * rightRows * (start * nRight + j * deep),
      others * deep,
      deep,
      y + 4 * place,
      (height - 1) * columns + width,
      columns,
      width,
      lower < 0 || above < 0 ? -1 : above,
    )
  }
}

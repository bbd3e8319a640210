/** Which part of the matrix is in the picture, and how gestures change it: pure functions. */

export interface View {
  row: number
  col: number
  rows: number
  cols: number
}

export type GridCell = readonly [row: number, col: number]

/** Fewer cells than this on a side are not zoomed to. */
const CLOSEST = 2

export function whole(n: number): View {
  return { row: 0, col: 0, rows: n, cols: n }
}

export function isWhole(view: View, n: number): boolean {
  return view.rows >= n && view.cols >= n
}

/** The block between two cells, whichever corner came first. */
export function block(a: GridCell, b: GridCell): View {
  const [row, col] = [Math.min(a[0], b[0]), Math.min(a[1], b[1])]
  return { row, col, rows: Math.abs(a[0] - b[0]) + 1, cols: Math.abs(a[1] - b[1]) + 1 }
}

/** As a picture of a block can be: not smaller than two cells a side, and inside the matrix. */
export function fitted(view: View, n: number): View {
  const side = (length: number) => Math.min(n, Math.max(Math.min(CLOSEST, n), Math.round(length)))
  const [rows, cols] = [side(view.rows), side(view.cols)]
  const start = (at: number, length: number) => Math.min(n - length, Math.max(0, Math.round(at)))
  return { row: start(view.row, rows), col: start(view.col, cols), rows, cols }
}

/** `factor` times as close, the given cell staying where it is as nearly as the edges allow. */
export function zoomed(view: View, factor: number, [row, col]: GridCell, n: number): View {
  const grown = (length: number) => {
    const next = length / factor
    // Rounding must not swallow a step.
    return Math.round(next) === length ? length + (factor < 1 ? 1 : -1) : next
  }
  const [rows, cols] = [grown(view.rows), grown(view.cols)]
  const at = (cell: number, from: number, before: number, after: number) =>
    cell + 0.5 - ((cell + 0.5 - from) / before) * after
  return fitted({ row: at(row, view.row, view.rows, rows), col: at(col, view.col, view.cols, cols), rows, cols }, n)
}

export function moved(view: View, rows: number, cols: number, n: number): View {
  return fitted({ ...view, row: view.row + rows, col: view.col + cols }, n)
}

/** The nearest view of the same size that shows a cell. */
export function following(view: View, [row, col]: GridCell, n: number): View {
  const shift = (at: number, from: number, length: number) =>
    at < from ? at - from : at >= from + length ? at - from - length + 1 : 0
  return moved(view, shift(row, view.row, view.rows), shift(col, view.col, view.cols), n)
}

export function contains(view: View, [row, col]: GridCell): boolean {
  return row >= view.row && row < view.row + view.rows && col >= view.col && col < view.col + view.cols
}

/** At most so many cells of a side: those around one of them, as far as the side reaches. */
export function around(centre: number, from: number, length: number, most: number): number[] {
  const first = Math.min(Math.max(from, centre - most / 2), Math.max(from, from + length - most))
  return Array.from({ length: Math.min(most, length) }, (_, i) => first + i)
}

/**
 * Side of a cell in CSS pixels: a whole number of the screen's own pixels where there is one, so that no
 * seams show, and not larger than `most`, which is what a number needs.
 */
export function cellSide(room: number, view: View, density: number, most = 56): number {
  const fit = room / Math.max(view.rows, view.cols)
  const snapped = Math.floor(fit * density) / density
  return Math.min(most, snapped >= 1 / density ? snapped : fit)
}

/** Side of a cell of a part: the longer side of the part fills the picture of the whole, which keeps its size. */
export function partSide(room: number, view: View, n: number, density: number): number {
  const all = cellSide(room, whole(n), density)
  return isWhole(view, n) ? all : cellSide(all * n, view, density, Infinity)
}

/** Layers of a range that get a number: each where there is room, otherwise every 2nd, 5th, 10th... */
export function rangeTicks(from: number, count: number, cell: number, room = 18): number[] {
  const step = [1, 2, 5, 10, 20, 50].find(s => s * cell >= room) ?? 100
  const first = Math.ceil(from / step) * step
  return Array.from({ length: Math.max(0, Math.ceil((from + count - first) / step)) }, (_, i) => first + i * step)
}

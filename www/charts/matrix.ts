import { colourOf, type Domain, type Palette } from './colour'

export interface Cell {
  row: number
  col: number
  x: number
  y: number
  /** Null where the run has not come yet. */
  value: number | null
  fill: string | null
  label: string
}

export interface MatrixChart {
  /** Side of the square of cells. */
  side: number
  cell: number
  /** By row, then by column. */
  rows: Cell[][]
  ticks: { layer: number; at: number }[]
}

export interface MatrixOptions {
  cell: number
  palette: Palette
  domain: Domain
}

/**
 * The heatmap of `n` layers. `values` may be a whole matrix or the rows that are done, each up to its
 * diagonal; the other half is its mirror.
 */
export function matrixChart(
  n: number,
  values: readonly (readonly number[])[],
  { cell, palette, domain }: MatrixOptions,
): MatrixChart {
  const rows = Array.from({ length: n }, (_, row) =>
    Array.from({ length: n }, (_, col): Cell => {
      const value = valueAt(values, row, col)
      return {
        row,
        col,
        x: col * cell,
        y: row * cell,
        value,
        fill: value === null ? null : colourOf(value, palette, domain),
        label: cellLabel(row, col, value),
      }
    }),
  )
  return { side: n * cell, cell, rows, ticks: layerTicks(n, cell).map(layer => ({ layer, at: (layer + 0.5) * cell })) }
}

export function valueAt(values: readonly (readonly number[])[], row: number, col: number): number | null {
  return values[Math.max(row, col)]?.[Math.min(row, col)] ?? null
}

export function cellLabel(row: number, col: number, value: number | null): string {
  const pair = row === col ? `layer ${row} with itself` : `layers ${Math.min(row, col)} and ${Math.max(row, col)}`
  return value === null ? `${pair}: not computed yet` : `${pair}: similarity ${value.toFixed(3)}`
}

/** Every layer where there is room for its number, otherwise every 2nd, 5th, 10th... */
export function layerTicks(n: number, cell: number, room = 18): number[] {
  const step = [1, 2, 5, 10, 20, 50].find(s => s * cell >= room) ?? 100
  return Array.from({ length: Math.ceil(n / step) }, (_, i) => i * step)
}

/** Squares along the diagonal around layers that became one. */
export function groupSquares(groups: readonly (readonly number[])[], cell: number): { x: number; side: number }[] {
  return groups.filter(g => g.length > 1).map(g => ({ x: g[0]! * cell, side: g.length * cell }))
}

/** The focused cell after a key of the grid pattern; null for other keys. */
export function moveInGrid(
  key: string,
  ctrl: boolean,
  [row, col]: readonly [number, number],
  n: number,
): [number, number] | null {
  const clamp = (i: number) => Math.min(n - 1, Math.max(0, i))
  switch (key) {
    case 'ArrowUp':
      return [clamp(row - 1), col]
    case 'ArrowDown':
      return [clamp(row + 1), col]
    case 'ArrowLeft':
      return [row, clamp(col - 1)]
    case 'ArrowRight':
      return [row, clamp(col + 1)]
    case 'PageUp':
      return [clamp(row - 5), col]
    case 'PageDown':
      return [clamp(row + 5), col]
    case 'Home':
      return ctrl ? [0, 0] : [row, 0]
    case 'End':
      return ctrl ? [n - 1, n - 1] : [row, n - 1]
    default:
      return null
  }
}

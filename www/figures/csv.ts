/** Tables as comma-separated text (RFC 4180), and back. */
import { Failure } from '../engine/errors'

export type Value = string | number | boolean | null

/** Columns by name; null is an empty cell. */
export interface Table {
  columns: readonly string[]
  rows: readonly (readonly Value[])[]
}

export function csvFile({ columns, rows }: Table): string {
  return [columns, ...rows].map(row => row.map(quoted).join(',')).join('\n') + '\n'
}

/** One object a row, with the columns as keys. */
export function recordsOf({ columns, rows }: Table): Record<string, Value>[] {
  return rows.map(row => Object.fromEntries(columns.map((column, i) => [column, row[i] ?? null])))
}

/** Text that a spreadsheet would take for a formula is kept from being one. */
function quoted(value: Value): string {
  const text =
    value === null ? '' : typeof value === 'string' && /^[=+@\t\r]|^-(?!\d)/.test(value) ? `'${value}` : String(value)
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

/** Whether the text begins as `matrixCsv` writes it: layers as headings. */
export function isMatrixCsv(text: string): boolean {
  return /^\uFEFF?layer,0(,|\r?\n|$)/.test(text)
}

/** A matrix with layers as headings of rows and columns. */
export function readMatrixCsv(text: string, name: string): number[][] {
  const wrong = (why: string) => new Failure('format', `${name}: ${why}. Save it again as CSV.`)
  const lines = text
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .filter(line => line !== '')
  const n = (lines[0]?.split(',').length ?? 1) - 1
  const headings = lines.map(line => line.split(',')[0])
  if (lines[0] !== ['layer', ...Array(n).keys()].join(','))
    throw wrong('its first line must be “layer” and the numbers of the layers')
  if (lines.length !== n + 1) throw wrong(`it names ${n} layers in its first line and has rows for ${lines.length - 1}`)
  return lines.slice(1).map((line, row) => {
    const cells = line.split(',').slice(1)
    if (headings[row + 1] !== String(row))
      throw wrong(`row ${row} begins with “${headings[row + 1]}” and should with its layer`)
    if (cells.length !== n) throw wrong(`row ${row} has ${cells.length} numbers and there are ${n} layers`)
    return cells.map((cell, col) => {
      const value = cell.trim() === '' ? NaN : Number(cell)
      if (!Number.isFinite(value)) throw wrong(`“${cell}” in row ${row}, column ${col} is not a finite number`)
      return value
    })
  })
}

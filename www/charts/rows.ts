import type { CompareRow } from '../engine/protocol/compare'
import { speedOf, type Speeds } from './speed'
import type { NumberType } from '../engine/protocol/output'
import { sentence } from '../ui/format'

export type Column =
  | 'method'
  | 'dtype'
  | 'removed'
  | 'bytes'
  | 'perplexity'
  | 'kl'
  | 'top1_agreement'
  | 'seconds'
  | 'prompt'
  | 'generation'
  | 'cache'
export interface Sorting {
  column: Column
  descending: boolean
}

/** Names a row, whatever the order. */
export function keyOfRow({
  method,
  removed,
  dtype = 'keep',
}: Pick<CompareRow, 'method' | 'removed' | 'dtype'>): string {
  return `${method} ${removed}${dtype === 'keep' ? '' : ` ${dtype}`}`
}

/** As they were chosen: type after type, in each method after method, and in that the numbers of layers as they were given. What is no method's, the original, comes first in its type. */
export function inOrder(
  rows: readonly CompareRow[],
  methods: readonly string[],
  remove: readonly number[],
  types: readonly NumberType[] = ['keep'],
): CompareRow[] {
  const place = ({ method, removed, dtype = 'keep' }: CompareRow) =>
    (types.indexOf(dtype) * (methods.length + 1) + methods.indexOf(method) + 1) * (remove.length + 1) +
    remove.indexOf(removed)
  return rows.toSorted((a, b) => place(a) - place(b))
}

/** By one column; what has no number there comes last either way, and equals keep their order. */
export function inOrderOf(
  rows: readonly CompareRow[],
  sorting: Sorting | null,
  title: (method: string) => string,
  speeds?: Speeds,
): CompareRow[] {
  if (!sorting) return [...rows]
  const { column, descending } = sorting
  const sign = descending ? -1 : 1
  if (column === 'dtype')
    return rows.toSorted((a, b) => sign * (a.dtype ?? 'keep').localeCompare(b.dtype ?? 'keep', 'en'))
  if (column === 'method') return rows.toSorted((a, b) => sign * title(a.method).localeCompare(title(b.method), 'en'))
  return rows.toSorted((a, b) => {
    const [x, y] = [valueIn(a, column, speeds), valueIn(b, column, speeds)]
    if (x === null || y === null) return Number(x === null) - Number(y === null)
    return x === y ? 0 : sign * (x < y ? -1 : 1)
  })
}

/** Ascending, descending, then as it was chosen again. */
export function nextSorting(sorting: Sorting | null, column: Column): Sorting | null {
  if (sorting?.column !== column) return { column, descending: false }
  return sorting.descending ? null : { column, descending: true }
}

/** Null where the row failed, or was not measured so. */
function valueIn(
  row: CompareRow,
  column: Exclude<Column, 'method' | 'dtype'>,
  speeds: Speeds | undefined,
): number | null {
  if (column === 'prompt' || column === 'generation' || column === 'cache')
    return speedOf(speeds, row)?.[column] ?? null
  if (row.quality === null) return column === 'removed' ? row.removed : null
  const value =
    column === 'perplexity' || column === 'kl' || column === 'top1_agreement' ? row.quality[column] : row[column]
  return value === null || Number.isNaN(value) ? null : value
}

/** What the rows warn of, each warning of a method once. */
export function remarksOf(rows: readonly CompareRow[], title: (method: string) => string): string[] {
  const removed = new Map<string, { method: string; warning: string; counts: number[] }>()
  for (const { method, removed: count, warnings } of rows) {
    for (const warning of warnings) {
      const known = removed.get(`${method} ${warning}`) ?? { method, warning, counts: [] }
      removed.set(`${method} ${warning}`, {
        ...known,
        counts: known.counts.includes(count) ? known.counts : [...known.counts, count],
      })
    }
  }
  return [...removed.values()].map(
    ({ method, warning, counts }) => `${title(method)} with ${counts.join(', ')} removed: ${sentence(warning)}`,
  )
}

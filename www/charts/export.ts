/** A matrix as comma-separated text, layers as headings. */
export function matrixCsv(matrix: readonly (readonly number[])[]): string {
  const head = ['layer', ...matrix.map((_, layer) => layer)].join(',')
  return [head, ...matrix.map((row, layer) => [layer, ...row].join(','))].join('\n') + '\n'
}

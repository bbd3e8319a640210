/** A matrix as comma-separated text, layers as headings. */
export function matrixCsv(matrix: readonly (readonly number[])[]): string {
  const head = ['layer', ...matrix.map((_, layer) => layer)].join(',')
  return [head, ...matrix.map((row, layer) => [layer, ...row].join(','))].join('\n') + '\n'
}

/** A drawing on the page as a file of its own: its colours are attributes already, its text gets a font. */
export function svgFile(svg: SVGSVGElement): string {
  const copy = svg.cloneNode(true) as SVGSVGElement
  copy.setAttribute('xmlns', 'http://www.w3.org/2000/svg')
  copy.setAttribute('font-family', 'system-ui, sans-serif')
  return new XMLSerializer().serializeToString(copy)
}

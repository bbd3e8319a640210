import { wholeCopy } from './beside'

/** A matrix as comma-separated text, layers as headings. */
export function matrixCsv(matrix: readonly (readonly number[])[]): string {
  const head = ['layer', ...matrix.map((_, layer) => layer)].join(',')
  return [head, ...matrix.map((row, layer) => [layer, ...row].join(','))].join('\n') + '\n'
}

/** A drawing on the page as a file of its own: its colours are attributes already, its text gets a font. */
export function svgFile(svg: SVGSVGElement): string {
  const copy = wholeCopy(svg)
  return serialised(copy)
}

const LOOKS = ['fill', 'stroke', 'stroke-width', 'stroke-dasharray', 'stroke-linejoin', 'opacity', 'font-size', 'font-weight', 'paint-order'] as const

/** The same for a drawing that is coloured by style sheets: as it looks now, on the ground it stands on. */
export function styledSvgFile(svg: SVGSVGElement): string {
  const copy = svg.cloneNode(true) as SVGSVGElement
  const copies = copy.querySelectorAll('*')
  for (const [i, element] of [...svg.querySelectorAll('*')].entries()) {
    const look = getComputedStyle(element)
    for (const name of LOOKS) if (element.localName !== 'g') copies[i]?.setAttribute(name, look.getPropertyValue(name))
    for (const name of ['style', 'class', 'role']) copies[i]?.removeAttribute(name)
  }
  for (const name of copy.getAttributeNames().filter(name => /^(tabindex|role|aria-value.*|class)$/.test(name))) copy.removeAttribute(name)
  const ground = document.createElementNS('http://www.w3.org/2000/svg', 'rect')
  const [x, y, width, height] = (copy.getAttribute('viewBox') ?? '0 0 0 0').split(' ')
  for (const [name, value] of Object.entries({ x, y, width, height, fill: getComputedStyle(document.documentElement).backgroundColor })) ground.setAttribute(name, value ?? '0')
  copy.prepend(ground)
  return serialised(copy)
}

function serialised(svg: SVGSVGElement): string {
  svg.setAttribute('xmlns', 'http://www.w3.org/2000/svg')
  svg.setAttribute('font-family', 'system-ui, sans-serif')
  return new XMLSerializer().serializeToString(svg)
}

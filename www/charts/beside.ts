/**
 * Drawings whose many marks are painted on a canvas under the SVG. What is in the canvas as shapes is made
 * only when the drawing leaves the page.
 */

type Shapes = () => SVGElement[]

const PLACE = 'data-painted'
const painters = new WeakMap<SVGSVGElement, Shapes>()

/** Says how to draw what a canvas shows beneath `svg`; it goes where the drawing has a `<g data-painted>`. */
export function paintedBeside(svg: SVGSVGElement, shapes: Shapes): void {
  painters.set(svg, shapes)
}

/** A copy of a drawing with everything that is seen in it. */
export function wholeCopy(svg: SVGSVGElement): SVGSVGElement {
  const copy = svg.cloneNode(true) as SVGSVGElement
  const place = copy.querySelector(`[${PLACE}]`)
  if (place) place.append(...(painters.get(svg)?.() ?? []))
  return copy
}

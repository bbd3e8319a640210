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

/** Puts into a copy of `svg` what is painted beside it. */
export function unpainted(svg: SVGSVGElement, copy: SVGSVGElement): void {
  copy.querySelector(`[${PLACE}]`)?.append(...(painters.get(svg)?.() ?? []))
}

/** What drawings have in common that stand alone: strings of SVG, made of numbers and not of the page. */

/** Colours of what is written and of the ground below. */
export interface DrawingLook {
  ink: string
  paper: string
}

/** The whole drawing, with its title for who cannot see it. */
export function drawing(
  width: number,
  height: number,
  { ink, paper }: DrawingLook,
  title: string,
  body: string,
): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12"><title>${escaped(title)}</title><rect width="100%" height="100%" fill="${paper}"/><g fill="${ink}">${body}</g></svg>\n`
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}

/** To a hundredth of a pixel. */
export function round(x: number): number {
  return Math.round(x * 100) / 100
}

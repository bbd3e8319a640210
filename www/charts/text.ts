/** Text in a drawing, whose width nobody measures: letters of 12 px are taken as this wide on average. */
const LETTER = 6.8

/** Lines of a text that fit in so many pixels. */
export function wrapped(text: string, width: number): string[] {
  const most = Math.max(16, Math.floor(width / LETTER))
  const lines: string[] = []
  for (const word of text.split(' ').filter(word => word !== '')) {
    const line = lines.at(-1)
    if (line === undefined || line.length + word.length >= most) lines.push(word)
    else lines[lines.length - 1] = `${line} ${word}`
  }
  return lines
}

/** The entries of a legend, one beside the other and then below. */
export function flowed(
  texts: readonly string[],
  width: number,
): { items: { text: string; x: number; y: number }[]; height: number } {
  let [x, y] = [0, 0]
  const items = texts.map(text => {
    const wide = 38 + text.length * LETTER
    if (x > 0 && x + wide > width) [x, y] = [0, y + 22]
    const item = { text, x, y }
    x += wide
    return item
  })
  return { items, height: texts.length > 0 ? y + 22 : 0 }
}

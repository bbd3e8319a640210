/**
 * Tells the width of an element, first when it has one. The browser tells it after its own layout; asking for it would
 * force one more, and drawing before the browser has told all would be an error.
 */
export function widthOf(tell: (width: number) => void): (node: Element) => () => void {
  return node => {
    const observer = new ResizeObserver(([entry]) => setTimeout(() => tell(Math.round(entry?.contentRect.width ?? 0))))
    observer.observe(node)
    return () => observer.disconnect()
  }
}

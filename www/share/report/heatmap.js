// @ts-check
/** Lets the heatmap in `root`, which `heatmapFigure` has drawn, be read by pointer and by arrow keys. @param {ParentNode} root @param {any} maps */
export function readHeatmap(root, maps) {
  const svg = /** @type {SVGSVGElement | null} */ (root.querySelector('#heatmap'))
  const said = /** @type {HTMLElement | null} */ (root.querySelector('#heatmap-read'))
  const frame = svg?.querySelector('.read')
  if (!svg || !said || !frame) return
  const n = Number(svg.dataset.n)
  const side = Number(svg.dataset.side)
  let [atRow, atCol] = [0, 0]
  /** @type {string[]} */
  const kinds = maps.model.kinds ?? []
  /** As the page says it. */
  const kindWords = (/** @type {number} */ first, /** @type {number} */ second) => {
    if (new Set(kinds).size < 2) return ''
    if (first === second) return `; kind: ${kinds[first]}`
    return kinds[first] === kinds[second]
      ? `; both of one kind: ${kinds[first]}`
      : `; kinds: ${kinds[first]}, ${kinds[second]}`
  }
  said.textContent = said.dataset.idle ?? ''

  const read = (/** @type {number} */ row, /** @type {number} */ col) => {
    const value = maps.similarity[row][col]
    const shared = maps.mutual_information?.[row]?.[col]
    const pair = row === col ? `Layer ${row} with itself` : `Layers ${Math.min(row, col)} and ${Math.max(row, col)}`
    said.textContent = `${pair}: similarity ${value.toFixed(3)}${shared === undefined ? '' : `, ${shared.toFixed(2)} nats shared`}${kindWords(Math.min(row, col), Math.max(row, col))}`
    frame.setAttribute('x', String(col * side))
    frame.setAttribute('y', String(row * side))
    frame.setAttribute('visibility', 'visible')
    ;[atRow, atCol] = [row, col]
  }
  svg.addEventListener('pointermove', event => {
    const matrix = svg.getScreenCTM()
    if (!matrix) return
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse())
    const row = Math.floor(y / side)
    const col = Math.floor(x / side)
    if (row >= 0 && row < n && col >= 0 && col < n) read(row, col)
  })
  svg.addEventListener('keydown', event => {
    /** @type {Record<string, [number, number]>} */
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }
    const step = steps[event.key]
    if (!step) return
    event.preventDefault()
    read(Math.max(0, Math.min(n - 1, atRow + step[0])), Math.max(0, Math.min(n - 1, atCol + step[1])))
  })
  svg.addEventListener('focus', () => read(atRow, atCol))
}

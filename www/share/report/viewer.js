// @ts-check
/** The script of a report, after `heatmap.js`: read-outs of its pictures, its maps, and tables that sort. It has its data in the file. */
;(() => {
  'use strict'
  const data = JSON.parse(document.getElementById('laminate-result')?.textContent ?? '{}')
  /** @type {string[]} */
  const ramp = JSON.parse(document.getElementById('laminate-colours')?.textContent ?? '[]')
  const maps = data.similarity

  // @ts-expect-error: `heatmap.js` stands before this script in the file.
  if (maps) readHeatmap(document, maps)
  pairOfMaps()
  for (const table of document.querySelectorAll('table.sortable')) sortable(/** @type {HTMLTableElement} */ (table))

  function pairOfMaps() {
    const pair = document.getElementById('map-pair')
    const said = document.getElementById('map-read')
    if (!pair || !said || !maps?.embedding.length) return
    const idle = said.textContent
    const side = (/** @type {string} */ name) => ({
      range: /** @type {HTMLInputElement} */ (pair.querySelector(`input[data-map=${name}]`)),
      svg: /** @type {SVGSVGElement} */ (pair.querySelector(`svg[data-map=${name}]`)),
    })
    const first = side('left')
    const sides = [first, side('right')]
    /** @type {number | null} */
    let lit = null
    /** Points from left to right in the left map: the order of colours and of the arrow keys. @type {number[]} */
    let order = []

    function draw() {
      const left = maps.embedding[Number(first.range.value)]
      order = left
        .map((/** @type {unknown} */ _, /** @type {number} */ i) => i)
        .sort((/** @type {number} */ a, /** @type {number} */ b) => left[a][0] - left[b][0])
      const rank = new Array(order.length)
      order.forEach((point, place) => {
        rank[point] = order.length > 1 ? place / (order.length - 1) : 0
      })
      for (const { range, svg } of sides) {
        const layer = Number(range.value)
        const output = range.parentElement?.querySelector('output')
        if (output) output.textContent = range.value
        svg.setAttribute('aria-label', `Diffusion map of layer ${layer}`)
        svg.replaceChildren(...dots(maps.embedding[layer], rank))
      }
      light(lit)
    }

    /** @param {number[][]} map @param {number[]} rank */
    function dots(map, rank) {
      const xs = map.map(point => point[0] ?? 0)
      const ys = map.map(point => point[1] ?? 0)
      const middle = (/** @type {number[]} */ v) => (Math.min(...v) + Math.max(...v)) / 2
      const width = (/** @type {number[]} */ v) => Math.max(...v) - Math.min(...v) || 1
      const unit = Math.min(296 / width(xs), 256 / width(ys))
      return map.map((_, point) => {
        const dot = document.createElementNS('http://www.w3.org/2000/svg', 'circle')
        dot.setAttribute('cx', (160 + ((xs[point] ?? 0) - middle(xs)) * unit).toFixed(1))
        dot.setAttribute('cy', (140 - ((ys[point] ?? 0) - middle(ys)) * unit).toFixed(1))
        dot.setAttribute('r', '4.5')
        dot.setAttribute('fill', ramp[Math.round((rank[point] ?? 0) * (ramp.length - 1))] ?? 'gray')
        dot.addEventListener('pointerenter', () => light(point))
        return dot
      })
    }

    const light = (/** @type {number | null} */ point) => {
      lit = point
      for (const { svg } of sides) {
        svg.querySelector('.lit')?.classList.remove('lit')
        if (point !== null) svg.children[point]?.classList.add('lit')
      }
      const text = point === null ? null : maps.point_list[point]
      said.textContent =
        point === null
          ? idle
          : text
            ? `Text ${text.sequence + 1}${text.position >= 0 ? `, token ${text.position + 1}` : ''}: ${text.text}`
            : `Point ${point + 1}; its text is not in this file.`
    }

    for (const { range, svg } of sides) {
      range.addEventListener('input', draw)
      svg.addEventListener('keydown', event => {
        const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key]
        if (!step) return
        event.preventDefault()
        light(order[Math.max(0, Math.min(order.length - 1, (lit === null ? -1 : order.indexOf(lit)) + step))] ?? null)
      })
    }
    draw()
  }

  /** @param {HTMLTableElement} table */
  function sortable(table) {
    const body = table.tBodies[0]
    const heads = [...table.querySelectorAll('thead th')]
    if (!body) return
    const given = [...body.rows]
    heads.forEach((head, column) => {
      const button = document.createElement('button')
      button.append(...head.childNodes)
      head.append(button)
      button.addEventListener('click', () => {
        const next =
          { none: 'ascending', ascending: 'descending', descending: 'none' }[
            head.getAttribute('aria-sort') ?? 'none'
          ] ?? 'none'
        for (const other of heads) other.removeAttribute('aria-sort')
        if (next !== 'none') head.setAttribute('aria-sort', next)
        body.append(...(next === 'none' ? given : sorted(given, column, next === 'descending' ? -1 : 1)))
      })
    })
  }

  /** Empty cells last, rows that are fixed first. @param {HTMLTableRowElement[]} rows @param {number} column @param {number} sign */
  function sorted(rows, column, sign) {
    const key = (/** @type {HTMLTableRowElement} */ row) => {
      const cell = row.cells[column]
      const number = Number(cell?.dataset.value ?? cell?.textContent)
      return cell?.textContent === '' ? null : Number.isNaN(number) ? (cell?.textContent ?? '') : number
    }
    return rows.slice().sort((a, b) => {
      const [fixedA, fixedB] = [a.classList.contains('fixed'), b.classList.contains('fixed')]
      if (fixedA || fixedB) return Number(fixedB) - Number(fixedA)
      const [x, y] = [key(a), key(b)]
      if (x === null || y === null) return Number(x === null) - Number(y === null)
      return typeof x === 'number' && typeof y === 'number'
        ? x === y
          ? 0
          : sign * (x < y ? -1 : 1)
        : sign * String(x).localeCompare(String(y), 'en')
    })
  }
})()

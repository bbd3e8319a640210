/**
 * The similarity picture of a result on anybody's page: `<laminate-heatmap src="similarity.json">`, or with the result in a link,
 * `<laminate-heatmap result="#result=1.…">`, or as an object, `heatmap.similarity = report`. The element is one file without
 * dependencies, and draws in a shadow root.
 */
import { Failure, saying } from '../../engine/errors'
import type { SimilarityReport } from '../../engine/protocol/similarity'
import { readLink } from '../link'
import { readResult } from '../read'
import { readHeatmap } from '../report/heatmap'
import style from '../report/report.css?raw'
import { heatmapFigure } from '../report/seen'
import { ofSimilarity, type Result } from '../result'

/** The styles of a report, for a part of a page. */
const OWN = `${style.replace(':root', ':host')}
:host { display: block; background: none; }`

export class LaminateHeatmap extends HTMLElement {
  static observedAttributes = ['src', 'result']
  /** Grows with every change, so that what arrives late is dropped. */
  #change = 0
  #similarity: SimilarityReport | null = null

  /** The similarities of layers that are drawn, instead of what the attributes name. */
  get similarity(): SimilarityReport | null {
    return this.#similarity
  }
  set similarity(report: SimilarityReport | null) {
    this.#similarity = report
    if (this.shadowRoot) void this.#draw()
  }

  connectedCallback(): void {
    this.#takeEarly()
    if (!this.shadowRoot) {
      const sheet = new CSSStyleSheet()
      sheet.replaceSync(OWN)
      this.attachShadow({ mode: 'open' }).adoptedStyleSheets = [sheet]
    }
    void this.#draw()
  }

  attributeChangedCallback(): void {
    if (this.shadowRoot) void this.#draw()
  }

  /** Takes what was set before the browser knew this element: until then it is a property like any other. */
  #takeEarly(): void {
    if (!Object.hasOwn(this, 'similarity')) return
    const { similarity } = this
    Reflect.deleteProperty(this, 'similarity')
    this.similarity = similarity
  }

  async #draw(): Promise<void> {
    const change = ++this.#change
    const root = this.shadowRoot!
    try {
      const { maps, plan } = await this.#read()
      if (change !== this.#change) return
      if (!maps) throw new Failure('format', 'This result holds no similarities.')
      root.innerHTML = heatmapFigure(maps, plan).html
      readHeatmap(root, maps)
    } catch (thrown) {
      if (change !== this.#change) return
      const said = document.createElement('p')
      said.className = 'warn'
      said.setAttribute('role', 'alert')
      said.textContent = saying(thrown)
      root.replaceChildren(said)
    }
  }

  async #read(): Promise<Result> {
    if (this.#similarity) return ofSimilarity(this.#similarity, 'similarity')
    const [link, src] = [this.getAttribute('result'), this.getAttribute('src')]
    if (link) return readLink(link)
    if (!src)
      throw new Failure('usage', 'laminate-heatmap needs the address of a result in src, or a link to one in result.')
    const answer = await fetch(src)
    if (!answer.ok) throw new Failure('source', `${src}: the server answered ${answer.status}.`)
    const result = await readResult(await answer.blob(), src)
    if (!result) throw new Failure('format', `${src} holds no result of Laminate.`)
    return result
  }
}

customElements.define('laminate-heatmap', LaminateHeatmap)

declare global {
  interface HTMLElementTagNameMap {
    'laminate-heatmap': LaminateHeatmap
  }
}

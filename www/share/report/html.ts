/** A result as one HTML file: it needs no network, no server and no engine, and this page reads it back. */
import { isComplete, PROGRAM, type Result, resultJson } from '../result'
import { colourOf } from '../../charts/colour'
import { CITATIONS } from '../citation'
import { jsonInHtml, REPORT_DATA } from './data'
import { Markup, markup } from './markup'
import { comparisonSection } from './compared'
import { costsSection } from './costs'
import { measuresSection, planSection } from './outcome'
import { mapsSection, modelSection, settingsSection, similaritySection, spectrumSection } from './seen'
import style from './report.css?raw'
import heatmap from './heatmap.js?raw'
import viewer from './viewer.js?raw'

export function reportHtml(result: Result): string {
  const nonce = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(16))))
  const { model, maps, plan, comparison, costs, options, methods, created } = result
  const policy = `default-src 'none'; script-src 'nonce-${nonce}'; style-src 'nonce-${nonce}'; img-src data:; base-uri 'none'; form-action 'none'`
  const day = created.slice(0, 10)
  const title = `${model.name}: what its layers share`
  const ramp = Array.from({ length: 33 }, (_, i) => colourOf(i / 32))
  return markup`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="Laminate ${PROGRAM}">
<title>${title}</title>
<style nonce="${nonce}">${new Markup(style)}</style>
</head>
<body>
<header>
<h1>${model.name}</h1>
<p class="lead">What its ${model.layers} layers share${costs ? ', how many can go' : ''}${plan ? ', what was merged' : ''}${comparison ? ', how methods compare' : ''}. Made with Laminate ${PROGRAM}${day ? ` on ${day}` : ''}; it holds everything but the weights, and asks no server for anything.</p>
</header>
<main>
${maps ? similaritySection(maps, plan) : ''}
${maps && maps.embedding.length > 0 ? mapsSection(maps) : ''}
${maps && maps.eigenvalues.length > 0 ? spectrumSection(maps) : ''}
${costs ? costsSection(costs, methods) : ''}
${plan ? planSection(plan, options) : ''}
${plan ? measuresSection(plan) : ''}
${comparison ? comparisonSection(comparison, methods) : ''}
${modelSection(model)}
${maps && isComplete(maps) ? settingsSection(maps) : ''}
<section aria-labelledby="cite"><h2 id="cite">Citation</h2>
${CITATIONS.map(({ what, text, bibtex }) => markup`<h3>For ${what}</h3><p>${text}</p><details><summary>BibTeX</summary><pre tabindex="0">${bibtex}</pre></details>`)}
</section>
</main>
<footer><p>To go on from here, open this file in Laminate: drop it on the page.</p></footer>
${new Markup(REPORT_DATA)}${new Markup(jsonInHtml(resultJson(result)))}</script>
<script type="application/json" id="laminate-colours">${new Markup(jsonInHtml(ramp))}</script>
<script nonce="${nonce}">${new Markup(heatmap.replace('export function', 'function'))}
${new Markup(viewer)}</script>
</body>
</html>
`.html
}

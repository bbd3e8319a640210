/** What was seen of the model: sections of the report. */
import { colourOf, domainFor, legend } from '../../charts/colour'
import { kindBand, kindCounts, kindSample, kindsOf, SWATCH, type KindPiece } from '../../charts/kinds'
import { groupSquares, layerTicks } from '../../charts/matrix'
import type { ModelReport } from '../../engine/protocol/model'
import type { PlanReport } from '../../engine/protocol/plan'
import type { SimilarityReport } from '../../engine/protocol/similarity'
import { bytes, count, perplexity, plural, sentence, similarity, whole } from '../../ui/format'
import { METRICS } from '../../words/metrics'
import { isKnown } from '../result'
import { settingsOf, textWords } from '../words'
import { Markup, markup } from './markup'

export function facts(pairs: readonly (readonly [name: string, value: string])[]): Markup {
  return markup`<dl>${pairs.map(([name, value]) => markup`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`
}

const SIDE = 10

/** Kinds of layers along an axis, or the sample of one. */
const pieces = (of: readonly KindPiece[]) =>
  of.map(
    ({ x, y, width, height, colour, lines, stroke }) =>
      markup`<g class="kind"><rect x="${x}" y="${y}" width="${width}" height="${height}" fill="${colour}"/>${lines ? markup`<path d="${lines}" stroke-width="${stroke}"/>` : ''}</g>`,
  )

/** The heatmap with its axes, its legend and what is read from it. */
export function heatmapFigure(maps: SimilarityReport, plan: PlanReport | null): Markup {
  const n = maps.layers
  const domain = domainFor(maps.metric, maps.similarity)
  const side = n * SIDE
  const kinds = kindsOf(maps.model.kinds)
  const thick = kinds.length > 0 ? side * 0.02 : 0
  // The frames of merged layers reach 1 beyond the cells.
  const band = thick > 0 ? thick * 1.2 + 1 : 0
  const margin = side * 0.06 + 14 + band
  const row = (values: readonly number[], l: number) =>
    markup`<g transform="translate(0 ${l * SIDE})">${values.map((value, m) => markup`<rect x="${m * SIDE}" fill="${colourOf(value, 'viridis', domain)}"/>`)}</g>`
  const ticks = layerTicks(n, (560 / (side + margin)) * SIDE, 22)
  const size = (side + margin) / 46
  const { stops, labels } = legend('viridis', domain)
  return markup`<figure>
<svg id="heatmap" viewBox="${-margin} 0 ${side + margin} ${side + margin}" role="img" tabindex="0" aria-label="Similarity of each pair of ${n} layers; arrow keys move through it, the table below has the numbers" aria-describedby="heatmap-read" data-n="${n}" data-side="${SIDE}">
<g class="cells">${maps.similarity.map(row)}</g>
${pieces(kindBand(maps.model.kinds, { x: 0, y: side + band - thick, from: 0, count: n, cell: SIDE, thick }))}${pieces(kindBand(maps.model.kinds, { x: -band, y: 0, from: 0, count: n, cell: SIDE, thick, down: true }))}
<g class="over">${groupSquares(plan?.plan.groups ?? [], SIDE).map(({ x, side: s }) => markup`<rect class="group" x="${x}" y="${x}" width="${s}" height="${s}"/>`)}<rect class="read" width="${SIDE}" height="${SIDE}" visibility="hidden"/></g>
<g font-size="${size.toFixed(2)}">${ticks.map(layer => markup`<text x="${(layer + 0.5) * SIDE}" y="${side + band + (margin - band) * 0.4}" text-anchor="middle">${layer}</text><text x="${-band - (margin - band) * 0.15}" y="${(layer + 0.5) * SIDE}" dy="0.35em" text-anchor="end">${layer}</text>`)}<text x="${side / 2}" y="${side + margin * 0.92}" text-anchor="middle">layer, counted from the input</text></g>
</svg>
<svg class="legend" viewBox="-10 0 220 40" width="220" height="40" role="img" aria-label="Colours: similarity from ${domain[0]} to ${domain[1]}">${stops.map(({ at, colour }) => markup`<rect x="${(at * 200 - 2.5).toFixed(1)}" y="4" width="5.5" height="12" fill="${colour}"/>`)}${labels.map(({ at, value }) => markup`<text x="${at * 200}" y="32" font-size="12" text-anchor="middle">${value}</text>`)}</svg>
${kinds.length > 0 ? markup`<ul class="kinds" aria-label="Kinds of layers, along both axes">${kinds.map(({ words, layers }, kind) => markup`<li><svg viewBox="0 0 ${SWATCH.width} ${SWATCH.thick}" width="${SWATCH.width}" height="${SWATCH.thick}" aria-hidden="true">${pieces([kindSample(kind)])}</svg>${words} (${layers})</li>`)}</ul>` : ''}
<p id="heatmap-read" class="read-out" role="status" data-idle="Point at a square, or move with the arrow keys, to read its value.">Similarity by ${METRICS[maps.metric].full}, on ${textWords(maps.text)}.</p>
<figcaption>Each square is a pair of layers${plan ? '; frames are layers that became one' : ''}. Similarity by ${METRICS[maps.metric].full}, on ${textWords(maps.text)}.</figcaption>
</figure>`
}

export function similaritySection(maps: SimilarityReport, plan: PlanReport | null): Markup {
  return markup`<section aria-labelledby="see"><h2 id="see">Similarity</h2>
${heatmapFigure(maps, plan)}
<details><summary>Table of the numbers</summary><div class="scroll" role="region" aria-label="Similarity of each pair of layers" tabindex="0"><table><thead><tr><th scope="col">layer</th>${maps.similarity.map((_, m) => markup`<th scope="col">${m}</th>`)}</tr></thead><tbody>${maps.similarity.map((values, l) => markup`<tr><th scope="row">${l}</th>${values.map(value => markup`<td>${similarity(value)}</td>`)}</tr>`)}</tbody></table></div></details>
${Number.isFinite(maps.perplexity) ? markup`<p>The model has perplexity ${perplexity(maps.perplexity)} on ${textWords(maps.text)}.</p>` : ''}
${maps.massive.length > 0 ? markup`<p>${maps.massive.length === 1 ? markup`Layer ${maps.massive.join()} writes a massive activation and is` : markup`Layers ${maps.massive.join(', ')} write a massive activation and are`} protected from being absorbed.</p>` : ''}
${maps.disconnected.length > 0 ? markup`<p>The ${maps.disconnected.length === 1 ? 'map of layer' : 'maps of layers'} ${maps.disconnected.join(', ')} ${maps.disconnected.length === 1 ? 'is' : 'are'} nearly disconnected.</p>` : ''}
${maps.warnings.map(warning => markup`<p class="warn">${sentence(warning)}</p>`)}
</section>`
}

/** Drawn by the viewer, from the data. */
export function mapsSection({ layers, similarity: matrix, points, dims }: SimilarityReport): Markup {
  const pairs = Array.from({ length: layers - 1 }, (_, l) => l)
  const first = pairs.reduce((best, l) => (matrix[l]![l + 1]! > (matrix[best]?.[best + 1] ?? -1) ? l : best), 0)
  const map = (side: string, layer: number) =>
    markup`<div><label>Layer <output>${layer}</output> <input type="range" min="0" max="${layers - 1}" step="1" value="${layer}" data-map="${side}" aria-label="Layer of the ${side} map"></label><svg data-map="${side}" viewBox="0 0 320 280" role="img" aria-label="Diffusion map of a layer" tabindex="0"></svg></div>`
  return markup`<section aria-labelledby="maps"><h2 id="maps">Maps</h2>
<p>Each point is a text, placed by the layer's diffusion map (${plural(points.count, 'point')}, the first two of ${plural(dims, 'coordinate')}). Colours follow the left map from left to right: where they keep their order on the right, both layers see the same thing.</p>
<div class="two" id="map-pair">${map('left', first)}${map('right', Math.min(layers - 1, first + 1))}</div>
<p class="read-out" role="status" id="map-read">Point at a dot, or move with the arrow keys, to read its text.</p>
<noscript><p>Maps are drawn by the script of this file, which this browser does not run.</p></noscript>
</section>`
}

export function spectrumSection({ eigenvalues, epsilon, block_influence: influence }: SimilarityReport): Markup {
  const most = Math.min(6, Math.max(...eigenvalues.map(each => each.length)))
  return markup`<section aria-labelledby="spectrum"><h2 id="spectrum">Spectrum</h2>
<p>The leading eigenvalues of each layer's random walk, the bandwidth of its kernel, and its Block Influence (1 minus the mean cosine of what goes in and what comes out).</p>
<div class="scroll" role="region" aria-label="Spectrum of each layer" tabindex="0"><table class="sortable"><thead><tr><th scope="col">layer</th>${Array.from({ length: most }, (_, k) => markup`<th scope="col">λ<sub>${k}</sub></th>`)}<th scope="col">bandwidth</th><th scope="col">Block Influence</th></tr></thead><tbody>
${eigenvalues.map((each, layer) => markup`<tr><th scope="row">${layer}</th>${Array.from({ length: most }, (_, k) => cell(each[k], 4))}${cell(epsilon[layer], 4)}${cell(influence[layer], 3)}</tr>`)}
</tbody></table></div></section>`
}

function cell(value: number | undefined, digits: number): Markup {
  return value === undefined
    ? markup`<td></td>`
    : markup`<td data-value="${value}">${Number(value.toPrecision(digits))}</td>`
}

export function modelSection(model: ModelReport): Markup {
  if (!isKnown(model))
    return markup`<section aria-labelledby="model"><h2 id="model">Model</h2><p>${model.name}, ${plural(model.layers, 'layer')}; more is not known of it.</p></section>`
  return markup`<section aria-labelledby="model"><h2 id="model">Model</h2>${facts([
    ['Name', model.name],
    ['Architecture', model.architecture],
    ['Layers', `${model.layers}, ${bytes(model.bytes_per_layer)} each`],
    ['Parameters', `${count(model.parameters)}, of which ${count(model.parameters_per_layer)} in each layer`],
    ['Size', `${bytes(model.bytes)} in ${model.dtype === 'mixed' ? 'several types' : model.dtype}`],
    ['Width', `${whole(model.hidden_size)}, ${whole(model.intermediate_size)} inside`],
    ['Attention', `${plural(model.heads, 'head')} of ${model.head_dim}, ${model.kv_heads} for keys and values`],
    ['Vocabulary', `${whole(model.vocab_size)} tokens${model.tied_head ? ', shared with the output' : ''}`],
    ['Context', `${whole(model.context)} tokens`],
    ['Read from', model.container],
    ...(model.experts
      ? ([['Experts', `${model.experts[0]} in a layer, ${model.experts[1]} for each token`]] as [string, string][])
      : []),
    ...(model.kinds ? ([['Kinds of layers', kindCounts(model.kinds)]] as [string, string][]) : []),
  ])}</section>`
}

export function settingsSection(maps: SimilarityReport): Markup {
  return markup`<section aria-labelledby="settings"><h2 id="settings">Settings</h2>${facts(settingsOf(maps))}</section>`
}

/** Methods side by side, and fewer layers against fewer bits: the section of the report. */
import { footing, overlapWarning, verdictLines } from '../../charts/comparison'
import { frontier } from '../../charts/frontier'
import { markColour, markPath } from '../../charts/marks'
import { inOrder, keyOfRow, remarksOf } from '../../charts/rows'
import { speedOf, type Comparison } from '../../charts/speed'
import { candidatesOf, hasFewerBits, ORIGINAL, originalRows } from '../../charts/verdicts'
import type { CompareRow } from '../../engine/protocol/compare'
import type { NamedMethod } from '../../engine/protocol/method'
import { bytes, nats, percent, perplexity, rate, seconds, sentence } from '../../ui/format'
import { titleOf } from '../../words/methods'
import { typeName } from '../../words/types'
import { Markup, markup } from './markup'
import { value } from './outcome'

export function comparisonSection(report: Comparison, methods: readonly NamedMethod[]): Markup {
  const title = (name: string) => titleOf(methods, name)
  const { original } = report
  const [who, ...sizes] = verdictLines(report, title)
  const both = [...originalRows(report), ...report.rows]
  const types = [...new Set(both.map(({ dtype = 'keep' }) => dtype))]
  const typed = types.some(type => type !== 'keep')
  const order = (of: (row: CompareRow) => string | number) => [...new Set(report.rows.map(of))]
  const all = typed
    ? inOrder(both, order(row => row.method) as string[], order(row => row.removed) as number[], [
        'keep',
        ...types.filter(type => type !== 'keep'),
      ])
    : report.rows
  const type = ({ dtype = 'keep' }: Pick<CompareRow, 'dtype'>) =>
    typed ? markup`<td class="left">${dtype === 'keep' ? 'as it is' : typeName(dtype)}</td>` : ''
  const { speeds } = report
  const runs = (of: Pick<CompareRow, 'method' | 'layers' | 'dtype'>) => {
    const speed = speedOf(speeds, of)
    return speeds
      ? markup`${value(speed?.prompt ?? null, rate)}${value(speed?.generation ?? null, rate)}${value(speed?.cache ?? null, bytes)}`
      : ''
  }
  const line = (row: CompareRow) =>
    markup`<tr${new Markup(row.quality?.collapsed ? ' class="collapsed"' : '')}><th scope="row" class="left">${title(row.method)}</th>${type(row)}${value(row.removed, String)}${
      row.quality
        ? markup`${value(row.quality.perplexity, perplexity)}${value(row.quality.kl, nats)}${value(row.quality.top1_agreement, percent)}${value(row.bytes, bytes)}${value(row.seconds, seconds)}${runs(row)}<td class="left">${row.quality.collapsed ? 'collapsed' : ''}</td>`
        : markup`<td></td><td></td><td></td><td></td><td></td>${runs(row)}<td class="left why">failed: ${sentence(row.error ?? 'no reason was given')}</td>`
    }</tr>`
  return markup`<section aria-labelledby="compare"><h2 id="compare">${who ? 'Fewer layers or fewer bits' : 'Methods compared'}</h2>
${who ? markup`<p><strong>${who}</strong></p>${plot(report, methods)}<details><summary>The verdict at each size of the front</summary>${sizes.map(each => markup`<p>${sentence(each)}</p>`)}</details>` : ''}
${overlapWarning(report) ? markup`<p class="warn">${overlapWarning(report)}</p>` : ''}
<div class="scroll" role="region" aria-label="Comparison of methods" tabindex="0"><table class="sortable"><thead><tr><th scope="col" class="left">method</th>${typed ? markup`<th scope="col" class="left">type</th>` : ''}<th scope="col">removed</th><th scope="col">perplexity</th><th scope="col">KL</th><th scope="col">agrees</th><th scope="col">size</th><th scope="col">took</th>${speeds ? markup`<th scope="col">prompt, tokens/s</th><th scope="col">generation, tokens/s</th><th scope="col">cache</th>` : ''}<th scope="col" class="left">state</th></tr></thead><tbody>
<tr class="fixed"><th scope="row" class="left">original</th>${type({})}${value(0, String)}${value(original.perplexity, perplexity)}<td></td><td></td>${value(report.bytes, bytes)}<td></td>${runs({ method: ORIGINAL, layers: report.model.layers })}<td></td></tr>
${all.map(line)}
</tbody></table></div>
${[...footing(report), ...report.warnings.map(sentence), ...remarksOf(report.rows, title)].map(note => markup`<p class="quiet">${note}</p>`)}
</section>`
}

/** KL against size, with the front. */
function plot(report: Comparison, methods: readonly NamedMethod[]): Markup {
  if (!hasFewerBits(report)) return markup``
  const [width, height] = [640, 300]
  const names = methods.map(method => method.name)
  const candidates = candidatesOf(report)
  const collapsed = new Set(report.rows.filter(row => row.quality?.collapsed).map(keyOfRow))
  const chart = frontier(candidates, { width, height, names, collapsed })
  const present = names.filter(name => candidates.some(each => each.method === name))
  const mark = (method: number | null, hollow = false) =>
    method === null
      ? markup`<circle r="5"/>`
      : markup`<path class="mark${hollow ? ' hollow' : ''}" fill="${hollow ? 'none' : markColour(method)}" stroke="${hollow ? markColour(method) : 'none'}" d="${markPath(method, 5)}"/>`
  return markup`<figure><svg class="frontier" viewBox="-60 -28 ${width + 68} ${height + 60}" role="img" aria-label="KL against size, by method and number type; the table below has the numbers">
<text class="name" x="-56" y="-14" font-size="12">KL in nats a token${chart.logarithmic ? ', logarithmic scale' : ''}: lower is better</text>${chart.yTicks.map(({ at, label }) => markup`<line x1="0" x2="${width}" y1="${at}" y2="${at}"/><text x="-8" y="${at}" dy="0.32em" font-size="12" text-anchor="end">${label}</text>`)}${chart.xTicks.map(
    ({ at, label }) => markup`<text x="${at}" y="${height + 20}" font-size="12" text-anchor="middle">${label}</text>`,
  )}
<path class="stairs" d="${chart.front}"/><path class="through" d="${chart.originals}"/>${chart.marks.map(
    each => markup`<g transform="translate(${each.x} ${each.y})">${mark(each.method, each.collapsed)}</g>`,
  )}${chart.marks.map(({ label }) =>
    label
      ? markup`<text x="${label.x}" y="${label.y}" dy="0.32em" font-size="12" text-anchor="${label.anchor}">${label.text}</text>`
      : markup``,
  )}
</svg><figcaption><ul class="kinds">${present.map(name => markup`<li><svg viewBox="-8 -8 16 16" width="16" height="16" aria-hidden="true" class="frontier">${mark(names.indexOf(name))}</svg>${titleOf(methods, name)}</li>`)}<li><svg viewBox="-8 -8 16 16" width="16" height="16" aria-hidden="true" class="frontier">${mark(null)}</svg>the original, all layers</li></ul>Marks say layers and number type; the stairs are the least loss at each size.</figcaption></figure>`
}

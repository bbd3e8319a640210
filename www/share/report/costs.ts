/** How far one can go: the section of the report. */
import { costPlot, reach, type SharedCosts, verdictOf } from '../../charts/costs'
import type { NamedMethod } from '../../engine/protocol/method'
import { bytes, nats, percent, perplexity } from '../../ui/format'
import { titleOf } from '../../words/methods'
import { type Markup, markup } from './markup'
import { value } from './outcome'

const [WIDTH, HEIGHT] = [520, 180]

export function costsSection(costs: SharedCosts, methods: readonly NamedMethod[]): Markup {
  const { whole, measured, goal, method, text } = costs
  const rows = measured.toSorted((a, b) => a.removed - b.removed)
  return markup`<section aria-labelledby="far"><h2 id="far">How far can I go?</h2>
<p><strong>${verdictOf(measured, whole, goal)}</strong></p>
<figure>${plot(costs)}<figcaption>KL by layers removed, with the size that is left, by ${titleOf(methods, method)}, measured on ${text}. The shaded part is what can go ${goal === 'jump' ? 'before the cost jumps' : `while ${percent(goal)} of next words stay the same`}.</figcaption></figure>
<div class="scroll" role="region" aria-label="What removing layers costs" tabindex="0"><table class="sortable"><thead><tr><th scope="col">removed</th><th scope="col">size</th><th scope="col">perplexity</th><th scope="col">KL, a token</th><th scope="col">agrees</th><th scope="col" class="left">state</th></tr></thead><tbody>
<tr class="fixed"><th scope="row" data-value="0">0</th>${value(whole.bytes, bytes)}${value(whole.perplexity, perplexity)}<td></td><td></td><td class="left">original</td></tr>
${rows.map(cost => markup`<tr><th scope="row" data-value="${cost.removed}">${cost.removed}</th>${value(cost.bytes, bytes)}${value(cost.perplexity, perplexity)}${value(cost.kl, nats)}${value(cost.agreement, percent)}<td class="left">${cost.collapsed ? 'collapsed' : ''}</td></tr>`)}
</tbody></table></div>
</section>`
}

function plot({ whole, measured, goal }: SharedCosts): Markup {
  const far = reach(measured, whole, goal)
  const { marks, path, xTicks, yTicks, x } = costPlot(measured, whole, { width: WIDTH, height: HEIGHT, far })
  const said = marks.map(({ cost }) => `${cost.removed}, ${nats(cost.kl!)}`).join('; ')
  return markup`<svg class="curve" viewBox="-60 -24 600 ${HEIGHT + 84}" role="img" aria-label="KL by layers removed: ${said}">
<text class="name" x="-56" y="-10" font-size="12">KL, nats a token</text>${yTicks.map(({ at, label }) => markup`<line x1="0" x2="${WIDTH}" y1="${at}" y2="${at}"/><text x="-8" y="${at}" dy="0.32em" font-size="12" text-anchor="end">${label}</text>`)}${xTicks.map(
    ({ removed, at, size }) =>
      markup`<text x="${at}" y="${HEIGHT + 20}" font-size="12" text-anchor="middle">${removed}</text><text x="${at}" y="${HEIGHT + 36}" font-size="12" text-anchor="middle">${size}</text>`,
  )}
${far > 0 ? markup`<path class="fine" d="M0 0H${x(far)}V${HEIGHT}H0Z"/>` : ''}<path d="${path}"/>${marks.map(
    ({ cost, x: at, y, above }) =>
      markup`<circle cx="${at}" cy="${y}" r="4" class="${cost.collapsed || above ? 'collapsed' : ''}"><title>${cost.removed} removed: ${nats(cost.kl!)}${cost.collapsed ? ', collapsed' : ''}</title></circle>`,
  )}
</svg>`
}

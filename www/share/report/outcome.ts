/** What was decided and what it cost: sections of the report. */
import { colourOf } from '../../charts/colour'
import { curveChart, type Measure } from '../../charts/curve'
import { mergeTree } from '../../charts/merges'
import { outcomeChart } from '../../charts/outcome'
import type { MergeStep, PlanOptions, PlanReport } from '../../engine/protocol/plan'
import type { Quality } from '../../engine/protocol/quality'
import { bytes, count, group, nats, percent, perplexity, plural, sentence, similarity } from '../../ui/format'
import { isFitted, OPERATORS, SELECTIONS } from '../../words/methods'
import { typeName, typeOf } from '../../words/types'
import { textWords } from '../words'
import { Markup, markup } from './markup'
import { facts } from './seen'

export function planSection(
  { plan, layers, parameters, bytes: size, warnings, experts, output, imatrix }: PlanReport,
  options: PlanOptions | null,
): Markup {
  const chosen: [string, string][] = options
    ? [
        ['Which layers', SELECTIONS[options.selection].word],
        [
          'Asked for',
          options.remove === null
            ? `merges down to a similarity of ${options.min_similarity}`
            : `${plural(options.remove, 'layer')} removed`,
        ],
        ...(isFitted(plan.operator)
          ? []
          : [
              [
                'Weights',
                typeof options.alpha === 'number'
                  ? `${options.alpha} for the first of two`
                  : options.alpha === 'search'
                    ? 'searched'
                    : 'by similarity',
              ] as [string, string],
            ]),
        ['Seed', String(options.seed)],
      ]
    : []
  return markup`<section aria-labelledby="plan"><h2 id="plan">Plan</h2>
<p>${layers.before} layers became ${layers.after}: ${plan.groups.map(each => markup`<b class="${each.length > 1 ? 'fused' : 'one'}">${group(each)}</b> `)}</p>
${facts([
  ...chosen,
  ['What becomes of them', OPERATORS[plan.operator].word],
  ...(size.before > 0
    ? ([
        ['Size', `${bytes(size.after)} of ${bytes(size.before)}`],
        ['Parameters', `${count(parameters.after)} of ${count(parameters.before)}`],
      ] as [string, string][])
    : []),
  ...(typeOf(output) === 'keep' ? [] : [['Number type', typeName(typeOf(output))] as [string, string]]),
  ...(imatrix ? [['Importances of', imatrix.name] as [string, string]] : []),
])}
${plan.steps.length > 0 ? markup`<figure>${tree(plan.n_layers, plan.steps)}<figcaption>Layers from input to output along the top; each row below is one merge, in the order they were made.</figcaption></figure>${stepTable(plan)}` : ''}
${experts?.length ? markup`<div class="scroll" role="region" aria-label="Experts" tabindex="0"><table><thead><tr><th scope="col">layer</th><th scope="col" class="left">experts that went</th><th scope="col">their share of the gates</th></tr></thead><tbody>${experts.map(({ layer, removed, share }) => markup`<tr><th scope="row">${layer}</th><td class="left">${removed.join(', ')}</td>${value(share, percent)}</tr>`)}</tbody></table></div>` : ''}
${warnings.map(warning => markup`<p class="warn">${sentence(warning)}</p>`)}
</section>`
}

function tree(n: number, steps: readonly MergeStep[]): Markup {
  const { joints, roots, height } = mergeTree(n, steps, { width: 640, row: 20, top: 32 })
  return markup`<svg class="tree" viewBox="-8 -20 656 ${height + 40}" role="img" aria-label="Order of the merges: ${joints.map(joint => joint.label).join('; ')}">${Array.from(
    { length: n },
    (_, layer) => layer,
  )
    .filter(layer => n <= 40 || layer % 10 === 0)
    .map(
      layer =>
        markup`<text x="${(((layer + 0.5) * 640) / n).toFixed(1)}" y="-6" font-size="12" text-anchor="middle">${layer}</text>`,
    )}${joints.map(
    ({ x1, x2, y, y1, y2, similarity: value }) =>
      markup`<path d="M${x1} ${y1}V${y}H${x2}V${y2}" stroke="${colourOf(value)}"/>`,
  )}${roots.map(({ x, y, layers }) => markup`<circle cx="${x}" cy="${layers.length === 1 ? 8 : y}" r="3"/>`)}</svg>`
}

/** Fitted plans are measured once they are whole, and have no shares. */
function stepTable({ steps, operator }: PlanReport['plan']): Markup {
  const fitted = isFitted(operator)
  return markup`<div class="scroll" role="region" aria-label="Steps" tabindex="0"><table class="sortable"><thead><tr><th scope="col">step</th><th scope="col" class="left">merged</th><th scope="col">similarity</th>${fitted ? '' : markup`<th scope="col">alpha</th>`}<th scope="col">layers left</th>${fitted ? '' : markup`<th scope="col">perplexity</th><th scope="col">KL</th><th scope="col">agrees</th><th scope="col">state</th>`}</tr></thead><tbody>
${steps.map((step, i) => markup`<tr><th scope="row" data-value="${i + 1}">${i + 1}</th><td class="left" data-value="${step.groups[0][0] ?? 0}">${group(step.groups[0])} with ${group(step.groups[1])}</td>${value(step.similarity, similarity)}${fitted ? '' : value(step.alpha, similarity)}${value(step.layers, String)}${fitted ? '' : markup`${value(step.perplexity, perplexity)}${value(step.kl, nats)}${value(step.top1_agreement, percent)}<td class="left">${step.collapsed ? 'collapsed' : ''}</td>`}</tr>`)}
</tbody></table></div>`
}

export function value(x: number | null, words: (x: number) => string): Markup {
  return x === null || Number.isNaN(x) ? markup`<td></td>` : markup`<td data-value="${x}">${words(x)}</td>`
}

/** A recipe does not say what the original was worth: then there is nothing to compare with. */
export function measuresSection(report: PlanReport): Markup {
  const { original, merged, dropped, text, plan } = report
  if (Number.isNaN(original.perplexity)) return markup``
  const line = (name: string, q: Quality) =>
    markup`<tr><th scope="row" class="left">${name}</th>${value(q.perplexity, perplexity)}${value(q.kl, nats)}${value(q.top1_agreement, percent)}<td class="left">${q.collapsed ? 'collapsed' : ''}</td></tr>`
  const same = plan.operator === 'drop'
  return markup`<section aria-labelledby="judge"><h2 id="judge">Measures</h2>
<p>On ${textWords(text)}${isFitted(plan.operator) ? ', held out: no layer was fitted to it' : ''}. “Dropped” keeps the first layer of each group and drops the others; KL and agreement are to the original on the same tokens; collapsed means a perplexity more than ten times the original's.</p>
<div class="scroll" role="region" aria-label="Quality" tabindex="0"><table><thead><tr><th scope="col" class="left">model</th><th scope="col">perplexity</th><th scope="col">KL, a token</th><th scope="col">agrees</th><th scope="col">state</th></tr></thead><tbody>${line('original', original)}${line(same ? 'dropped' : 'merged', merged)}${same ? '' : line('dropped', dropped)}</tbody></table></div>
${isFitted(plan.operator) ? markup`<figure>${outcome(report, 'perplexity')}${outcome(report, 'kl')}<figcaption>Perplexity (logarithmic) and KL in nats a token (linear): the original, what became of it, and the same layers dropped. Layers are fitted once the plan is whole, so there is nothing to measure after each merge.</figcaption></figure>` : plan.steps.some(step => step.perplexity !== null) ? markup`<figure>${curve(report, 'perplexity')}${curve(report, 'kl')}<figcaption>Perplexity (logarithmic) and KL in nats a token (linear) by layers removed: merged (dots), dropped (squares). The dotted line is the original.</figcaption></figure>` : ''}
</section>`
}

function curve(report: PlanReport, measure: Measure): Markup {
  const chart = curveChart(report, { width: 520, height: 150, measure })
  const name = measure === 'kl' ? 'KL, nats a token' : 'Perplexity'
  const words = (x: number) => (measure === 'kl' && Number.isFinite(x) ? nats(x) : perplexity(x))
  return markup`<svg class="curve" viewBox="-60 -24 600 206" role="img" aria-label="${name} by layers removed: ${chart.points.map(p => `${p.removed}, ${words(p.value)}`).join('; ')}">
<text class="name" x="-56" y="-10" font-size="12">${name}</text>${chart.yTicks.map(({ at, label }) => markup`<line x1="0" x2="520" y1="${at}" y2="${at}"/><text x="-8" y="${at}" dy="0.32em" font-size="12" text-anchor="end">${label}</text>`)}${chart.xTicks.map(
    ({ value: removed, at }) => markup`<text x="${at}" y="170" font-size="12" text-anchor="middle">${removed}</text>`,
  )}
<line class="original" x1="0" x2="520" y1="${chart.original}" y2="${chart.original}"/>${report.plan.operator === 'drop' ? '' : markup`<path class="other" d="${chart.droppedPath}"/>${chart.dropped.map(({ x, y }) => markup`<rect x="${x - 3.5}" y="${y - 3.5}" width="7" height="7"/>`)}`}<path d="${chart.path}"/>${chart.points.map(
    ({ x, y, removed, value: v, collapsed }) =>
      markup`<circle cx="${x}" cy="${y}" r="4" class="${collapsed ? 'collapsed' : ''}"><title>${removed} removed: ${words(v)}${collapsed ? ', collapsed' : ''}</title></circle>`,
  )}
</svg>`
}

function outcome(report: PlanReport, measure: Measure): Markup {
  const { marks, original, xTicks } = outcomeChart(report, { width: 460, row: 30, measure })
  const name = measure === 'kl' ? 'KL, nats a token' : 'Perplexity'
  return markup`<svg class="curve" viewBox="-76 -24 600 140" role="img" aria-label="${name}: ${marks.map(mark => `${mark.name}, ${mark.label}`).join('; ')}">
<text class="name" x="-72" y="-10" font-size="12">${name}</text>${xTicks.map(({ at, label }) => markup`<line x1="${at}" x2="${at}" y1="0" y2="90"/><text x="${at}" y="108" font-size="12" text-anchor="middle">${label}</text>`)}
<line class="original" x1="${original}" x2="${original}" y1="0" y2="90"/>${marks.map(
    ({ name: model, x, y, label, collapsed }) =>
      markup`<text x="-8" y="${y}" dy="0.32em" font-size="12" text-anchor="end">${model}</text>${
        model === 'original'
          ? ''
          : markup`<path class="${model === 'dropped' ? 'other' : ''}" d="M${original} ${y}H${x}"/>`
      }${model === 'dropped' ? markup`<rect x="${x - 3.5}" y="${y - 3.5}" width="7" height="7"/>` : markup`<circle cx="${x}" cy="${y}" r="4" class="${collapsed ? 'collapsed' : ''}"/>`}<text x="${x > 330 ? x - 10 : x + 10}" y="${x > 330 ? y - 11 : y}" dy="0.32em" font-size="12" text-anchor="${x > 330 ? 'end' : 'start'}">${label}</text>`,
  )}
</svg>`
}

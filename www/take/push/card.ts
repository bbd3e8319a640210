/**
 * The model card that goes to a hub: the engine's, with the picture in it, or one for a GGUF file, beside which the
 * engine writes none.
 */
import type { Quality } from '../../engine/protocol/quality'
import type { PlanReport } from '../../engine/protocol/plan'
import type { Recipe } from '../../engine/protocol/recipe'

/** File names that a hub and the engine give a meaning to. */
export const CARD = 'README.md'
export const RECIPE = 'recipe.json'
/** PNG: not every hub shows an SVG out of a repository. */
export const PICTURE = 'similarity.png'

/** The card with the picture before its first section, and with the repository that the model came from in its head. */
export function cardWith(card: string, { alt, base }: { alt: string; base: string | null }): string {
  const picture = `![${alt.replace(/[[\]\n]/g, ' ')}](${PICTURE})\n\n`
  const section = /^## /m.exec(card)?.index
  const pictured =
    section === undefined ? `${card.trimEnd()}\n\n${picture}` : card.slice(0, section) + picture + card.slice(section)
  return base && pictured.startsWith('---\n') ? pictured.replace('---\n', `---\nbase_model: ${base}\n`) : pictured
}

/** A card in the form of the engine's (`src/write/card.rs`), of what a recipe and its report say. */
export function cardOf({ laminate, model, options, plan: { operator } }: Recipe, report: PlanReport): string {
  const { layers, parameters, bytes, original, merged, dropped, text, output } = report
  const fewer = layers.after < layers.before
  const made = fewer
    ? `${options ? `The rule \`${options.selection}\` chose the layers, and the` : 'The'} operator \`${operator}\` made one layer of each group.`
    : 'All layers stay.'
  const rows: [string, Quality][] = [
    ['original', original],
    ['this model', merged],
    ...(fewer ? [['dropping the same layers', dropped] satisfies [string, Quality]] : []),
  ]
  return `---
pipeline_tag: text-generation
tags:
- gguf
- laminate
- merge
---

# ${model} with ${layers.after} of ${layers.before} layers

Made by Laminate ${laminate}. ${made} Numbers are stored as \`${output.pack ?? output.dtype}\`.

\`${RECIPE}\` holds everything needed to repeat it, except for the original model and the texts.

## What it cost

Measured on ${text.name} (${text.sequences} sequences of ${text.tokens_per_sequence} tokens).

| model | perplexity | KL to the original, nats a token | same top token |
|---|---|---|---|
${rows.map(([name, quality]) => row(name, quality)).join('\n')}

${parameters.after} of ${parameters.before} parameters, ${bytes.after} of ${bytes.before} bytes.
${merged.collapsed ? "\n**Collapsed**: the perplexity is more than ten times the original's.\n" : ''}
## Layers

| new layer | original layers |
|---|---|
${report.plan.groups.map((group, place) => `| ${place} | ${group.join(', ')} |`).join('\n')}
`
}

function row(name: string, { perplexity, kl, top1_agreement: same, collapsed }: Quality): string {
  const said = [
    `${perplexity.toFixed(3)}${collapsed ? ' (collapsed)' : ''}`,
    kl === null ? '–' : kl.toFixed(3),
    same === null ? '–' : `${(100 * same).toFixed(1)} %`,
  ]
  return `| ${name} | ${said.join(' | ')} |`
}

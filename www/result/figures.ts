/** The result in a few large figures, and in words. */
import { degreeOf, LEAST_AGREEMENT } from '../charts/costs'
import type { PlanReport } from '../engine/protocol/plan'
import type { BothSpeeds } from '../try'
import { bytes, percent, perplexity, rate } from '../ui/format'

export interface ResultFigure {
  value: string
  words: string
}

/** Layers, size, next words, perplexity, and speed where it was measured. `size` is that of the file, in bytes. */
export function resultFigures(
  { layers, bytes: { before }, original, merged }: PlanReport,
  size: number,
  speed: BothSpeeds | null,
): ResultFigure[] {
  const figures: ResultFigure[] = [
    layers.before === layers.after
      ? { value: `${layers.after}`, words: 'layers, all of them' }
      : { value: `${layers.before} → ${layers.after}`, words: 'layers' },
    {
      value: size <= before ? percent(1 - size / before) : `+${percent(size / before - 1)}`,
      words: `${size <= before ? 'smaller' : 'larger'}: ${bytes(size)} of ${bytes(before)}`,
    },
  ]
  if (merged.top1_agreement !== null)
    figures.push({ value: percent(merged.top1_agreement), words: 'of next words are the same' })
  if (Number.isFinite(original.perplexity) && Number.isFinite(merged.perplexity))
    figures.push({
      value: signed(merged.perplexity / original.perplexity - 1),
      words: `perplexity: ${perplexity(merged.perplexity)}, was ${perplexity(original.perplexity)}`,
    })
  const [own, was] = [speed?.compressed?.generation, speed?.original?.generation]
  if (own && was) figures.push({ value: signed(own / was - 1), words: `speed: ${rate(own)} tokens a second` })
  return figures
}

function signed(share: number): string {
  if (share >= 1) return `${rate(share + 1)} ×`
  return `${share < 0 ? '−' : '+'}${percent(Math.abs(share))}`
}

/** A model whose perplexity has risen by this factor does more than hardly differ. */
const MUCH = 1.02

/** What was lost, in a sentence. */
export function resultWords({ merged, original, dropped, plan, text }: PlanReport): string {
  const { top1_agreement: agreement } = merged
  const rise = merged.perplexity / original.perplexity
  const on = `Measured on ${text.name}`
  const beside =
    plan.operator === 'drop' || !Number.isFinite(dropped.perplexity)
      ? ''
      : ` Dropping the same layers gives a perplexity of ${perplexity(dropped.perplexity)}.`
  if (agreement === null || !Number.isFinite(rise)) return `${on}.`
  if (agreement < LEAST_AGREEMENT)
    return `The new model is a different model from the original; remove fewer layers. ${on}.${beside}`
  const degree = degreeOf(agreement)
  const how = degree !== 'hardly' ? `differs ${degree}` : rise < MUCH ? 'hardly differs' : 'differs a little'
  return `The new model ${how} from the original. ${on}.${beside}`
}

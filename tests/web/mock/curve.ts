import type { Observe } from '../../../www/engine/protocol/engine'
import type { MergePlan } from '../../../www/engine/protocol/plan'
import type { CalibrationPoint } from '../../../www/engine/protocol/quality'
import type { SimilarityReport } from '../../../www/engine/protocol/similarity'
import type { TextOptions } from '../../../www/engine/protocol/text'
import { isFitted } from '../../../www/words/methods'
import { checkJudge, fittedWith } from './plan'
import { fail, wait } from './tell'

/**
 * A point a size, as the plan itself would be with so much text; a stop gives those that came.
 * A text to judge on that begins with "two sizes" makes the third size last until it is stopped.
 */
export async function curveOf(
  maps: SimilarityReport,
  plan: MergePlan,
  sizes: readonly number[],
  observe: Observe,
  judge: TextOptions,
): Promise<CalibrationPoint[]> {
  if (!isFitted(plan.operator))
    fail('usage', `Layers that are ${plan.operator === 'drop' ? 'dropped' : 'averaged'} are not fitted to any text.`)
  checkJudge(judge)
  const { sequences: most, tokens_per_sequence: each } = maps.text
  const points: CalibrationPoint[] = []
  for (const [i, sequences] of sizes.entries()) {
    if (sequences < 1 || sequences > most) fail('usage', `${sequences} of ${most} sequences cannot be fitted to.`)
    const detail = `as the plan says, with ${sequences} sequences`
    do {
      if (await observe({ progress: { stage: 'plan', done: i, total: sizes.length, unit: 'layers', detail } }))
        return points
      await wait(120)
    } while (i === 2 && judge.text?.startsWith('two sizes'))
    const size: CalibrationPoint = {
      sequences,
      tokens: sequences * each,
      quality: fittedWith(plan, sequences * each),
      seconds: 0.12,
    }
    points.push(size)
    if (await observe({ size })) return points
  }
  return points
}

/** Checks of plans and of what a plan's report says, and of what they must agree on. */
import type { MergePlan, MergeStep, PlanReport, RemovedExperts, StoredSize } from '../../engine/protocol/plan'
import { type Check, flag, list, nullable, number, otherwise, type Place, record, refuse, text } from './check'
import {
  container,
  count,
  device,
  imatrixFile,
  layers,
  numberType,
  operator,
  quality,
  share,
  textReport,
  texts,
  writeOptions,
} from './facts'

const step = record<MergeStep>({
  merged: list(count, { length: 2 }) as Check<[number, number]>,
  groups: list(list(count), { length: 2 }) as Check<[number[], number[]]>,
  alpha: share,
  similarity: number(),
  layers,
  perplexity: nullable(number(0)),
  kl: nullable(number()),
  top1_agreement: nullable(share),
  collapsed: otherwise(flag, false),
  dropped: nullable(quality),
  bytes: nullable(count),
})

/** Each layer once and in order; as many weights as layers, with the sum 1; steps that lead there. */
export const mergePlan: Check<MergePlan> = (value, at) => {
  const plan = record<MergePlan>({
    n_layers: layers,
    operator: otherwise(operator, 'average'),
    steps: otherwise(list(step), []),
    groups: list(list(count, { least: 1 })),
    weights: list(list(number())),
    kept_experts: otherwise<number[][] | undefined>(list(list(count)), undefined),
  })(value, at)
  if (plan.kept_experts && plan.kept_experts.length !== plan.n_layers)
    refuse([at[0], `${at[1]}.kept_experts`], `has ${plan.kept_experts.length} entries for ${plan.n_layers} layers`)
  runs(plan.groups, plan.n_layers, [at[0], `${at[1]}.groups`])
  if (plan.weights.length !== plan.groups.length)
    refuse([at[0], `${at[1]}.weights`], `has ${plan.weights.length} entries for ${plan.groups.length} groups`)
  for (const [g, weights] of plan.weights.entries()) {
    const here: Place = [at[0], `${at[1]}.weights[${g}]`]
    if (weights.length !== plan.groups[g]!.length)
      refuse(here, `has ${weights.length} entries for ${plan.groups[g]!.length} layers`)
    const sum = weights.reduce((a, b) => a + b, 0)
    if (Math.abs(sum - 1) > 1e-5) refuse(here, `adds up to ${sum} and not to 1`)
  }
  if (plan.steps.length > 0) replayed(plan, at)
  return plan
}

function runs(groups: readonly number[][], n: number, at: Place): void {
  const all = groups.flat()
  if (all.length !== n || all.some((layer, i) => layer !== i))
    refuse(at, `must hold the layers 0 to ${n - 1}, each once and in order`)
}

function replayed({ steps, groups, n_layers }: MergePlan, [file, path]: Place): void {
  const now = Array.from({ length: n_layers }, (_, layer) => [layer])
  for (const [
    i,
    {
      merged: [l, m],
      groups: [a, b],
      layers: left,
    },
  ] of steps.entries()) {
    const here: Place = [file, `${path}.steps[${i}]`]
    if (m !== l + 1 || m >= now.length)
      refuse(here, `merges layers ${l} and ${m}, which are no neighbours of the ${now.length} that are left then`)
    if (String(now[l]) !== String(a) || String(now[m]) !== String(b))
      refuse(here, 'names other original layers than the steps before it leave there')
    now.splice(l, 2, [...a, ...b])
    if (left !== now.length) refuse(here, `leaves ${now.length} layers and says ${left}`)
  }
  if (JSON.stringify(now) !== JSON.stringify(groups)) refuse([file, `${path}.groups`], 'are not what the steps lead to')
}

const beforeAfter = record({ before: count, after: count })

export const planReport: Check<PlanReport> = (value, at) => {
  const report = record<PlanReport>({
    plan: mergePlan,
    text: textReport,
    original: quality,
    merged: quality,
    dropped: quality,
    output: writeOptions,
    imatrix: imatrixFile,
    warnings: texts,
    experts: otherwise<RemovedExperts[] | undefined>(
      list(record<RemovedExperts>({ layer: count, removed: list(count), share: nullable(share) })),
      undefined,
    ),
    layers: beforeAfter,
    parameters: beforeAfter,
    bytes: beforeAfter,
    sizes: otherwise<StoredSize[] | undefined>(
      list(record<StoredSize>({ container, dtype: numberType, bytes: count, elements: list(text) })),
      undefined,
    ),
    device,
    seconds: number(0),
    peak_memory_bytes: number(0),
  })(value, at)
  const {
    plan,
    layers: { before, after },
  } = report
  if (before !== plan.n_layers || after !== plan.groups.length)
    refuse(
      [at[0], 'layers'],
      `says ${before} before and ${after} after, and the plan ${plan.n_layers} and ${plan.groups.length}`,
    )
  return report
}

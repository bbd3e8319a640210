/** The numbers of each figure, as tables, arrays and records: pure functions. Layers are counted from 0. */
import type { HealPoint } from '../engine/protocol/heal'
import type { CostCurve } from '../charts/costs'
import type { Neighbour } from '../charts/neighbours'
import type { CompareRow } from '../engine/protocol/compare'
import type { PlanReport } from '../engine/protocol/plan'
import type { CalibrationPoint, Quality } from '../engine/protocol/quality'
import type { SimilarityReport } from '../engine/protocol/similarity'
import type { Value, Table } from './csv'
import { arrayOf, type NumericArray } from './npy'

/** One line a point of a layer's map, with its text where that is known. */
export function mapsTable(
  { embedding, point_list }: Pick<SimilarityReport, 'embedding' | 'point_list'>,
  layers: readonly number[],
): Table {
  const dims = embedding[0]?.[0]?.length ?? 0
  return {
    columns: [
      'layer',
      'point',
      ...Array.from({ length: dims }, (_, d) => `psi_${d + 1}`),
      'sequence',
      'position',
      'text',
    ],
    rows: layers.flatMap(layer =>
      (embedding[layer] ?? []).map((at, point): Value[] => {
        const said = point_list[point]
        return [layer, point, ...at, said?.sequence ?? null, said?.position ?? null, said?.text ?? null]
      }),
    ),
  }
}

/** Of the shape (layers, points, dims). */
export function mapsArray({ embedding }: Pick<SimilarityReport, 'embedding'>, layers: readonly number[]): NumericArray {
  return arrayOf(layers.map(layer => embedding[layer] ?? []))
}

/** One line a layer; lambda_0 = 1 first. */
export function spectrumTable(eigenvalues: readonly (readonly number[])[]): Table {
  const most = Math.max(0, ...eigenvalues.map(each => each.length))
  return {
    columns: ['layer', ...Array.from({ length: most }, (_, k) => `lambda_${k}`)],
    rows: eigenvalues.map((each, layer) => [layer, ...Array.from({ length: most }, (_, k) => each[k] ?? null)]),
  }
}

/** Each layer and the next. */
export function neighboursTable(pairs: readonly Neighbour[]): Table {
  return {
    columns: ['layer', 'next', 'similarity', 'chosen'],
    rows: pairs.map(({ layer, similarity, chosen }) => [layer, layer + 1, similarity, Number(chosen)]),
  }
}

/** One line a model with so many layers removed, the original first. */
export function costsTable({ whole, measured }: Pick<CostCurve, 'whole' | 'measured'>): Table {
  return {
    columns: ['removed', 'bytes', 'perplexity', 'kl', 'top1_agreement', 'collapsed'],
    rows: [
      [0, whole.bytes, whole.perplexity, 0, 1, 0],
      ...measured
        .toSorted((a, b) => a.removed - b.removed)
        .map((cost): Value[] => [
          cost.removed,
          cost.bytes,
          cost.perplexity,
          cost.kl,
          cost.agreement,
          Number(cost.collapsed),
        ]),
    ],
  }
}

/** One line a merge, in the order in which they happen. */
export function mergesTable({ plan: { steps } }: Pick<PlanReport, 'plan'>): Table {
  return {
    columns: ['step', 'first', 'second', 'alpha', 'similarity', 'layers'],
    rows: steps.map((step, i) => [
      i + 1,
      step.groups[0].join(' '),
      step.groups[1].join(' '),
      step.alpha,
      step.similarity,
      step.layers,
    ]),
  }
}

/** Quality by layers removed, the original first; empty where it was not measured. */
export function curveTable({ original, plan: { steps }, bytes, layers }: PlanReport): Table {
  return {
    columns: [
      'removed',
      'layers',
      'bytes',
      'perplexity',
      'kl',
      'top1_agreement',
      'collapsed',
      'dropped_perplexity',
      'dropped_kl',
    ],
    rows: [
      [0, layers.before, bytes.before, original.perplexity, 0, 1, 0, original.perplexity, 0],
      ...steps.map((step, i): Value[] => [
        i + 1,
        step.layers,
        step.bytes,
        step.perplexity,
        step.kl,
        step.top1_agreement,
        Number(step.collapsed),
        step.dropped?.perplexity ?? null,
        step.dropped?.kl ?? null,
      ]),
    ],
  }
}

/** The original, what became of it, and the same layers dropped: what a plan is worth whose steps are not measured one by one. */
export function outcomeTable({ original, merged, dropped, bytes, layers }: PlanReport): Table {
  const line = (model: string, left: number, size: number, q: Quality): Value[] => [
    model,
    left,
    size,
    q.perplexity,
    q.kl,
    q.top1_agreement,
    Number(q.collapsed),
  ]
  return {
    columns: ['model', 'layers', 'bytes', 'perplexity', 'kl', 'top1_agreement', 'collapsed'],
    rows: [
      line('original', layers.before, bytes.before, { ...original, kl: 0, top1_agreement: 1 }),
      line('merged', layers.after, bytes.after, merged),
      line('dropped', layers.after, bytes.after, dropped),
    ],
  }
}

/** The same numbers in the same order, without the names. */
export function outcomeArray(report: PlanReport): NumericArray {
  return arrayOf(outcomeTable(report).rows.map(row => row.slice(1).map(cell => cell ?? NaN)))
}

/** One line a size of the calibration text. */
export function healingTable(points: readonly HealPoint[]): Table {
  return {
    columns: ['tokens', 'perplexity', 'kl', 'top1_agreement', 'loss', 'seconds'],
    rows: points.map(({ tokens, quality: q, loss, seconds }) => [
      tokens,
      q.perplexity,
      q.kl,
      q.top1_agreement,
      loss,
      seconds,
    ]),
  }
}

export function sizesTable(points: readonly CalibrationPoint[]): Table {
  return {
    columns: ['sequences', 'tokens', 'perplexity', 'kl', 'top1_agreement', 'collapsed', 'seconds'],
    rows: points.map(({ sequences, tokens, quality: q, seconds }) => [
      sequences,
      tokens,
      q.perplexity,
      q.kl,
      q.top1_agreement,
      Number(q.collapsed),
      seconds,
    ]),
  }
}

/** A model a line: layers removed, bytes, perplexity, KL, agreement; NaN where there is none. The order is that of the rows. */
export function tradeoffArray(rows: readonly Pick<CompareRow, 'removed' | 'bytes' | 'quality'>[]): NumericArray {
  return arrayOf(
    rows.map(({ removed, bytes, quality }) => [
      removed,
      bytes,
      quality?.perplexity ?? NaN,
      quality?.kl ?? NaN,
      quality?.top1_agreement ?? NaN,
    ]),
  )
}

/** A table of numbers as an array of its columns' order; null where a column holds words. */
export function tableArray({ rows }: Table): NumericArray | null {
  if (rows.some(row => row.some(cell => cell !== null && typeof cell !== 'number'))) return null
  return arrayOf(rows.map(row => row.map(cell => cell ?? NaN)))
}

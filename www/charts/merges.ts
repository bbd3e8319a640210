import type { MergeStep } from '../engine/protocol/plan'

export interface Joint {
  step: number
  /** Centres of the two groups, and the row of the merge. */
  x1: number
  x2: number
  y: number
  /** Where the two legs begin, from the top. */
  y1: number
  y2: number
  similarity: number
  label: string
}

export interface MergeTree {
  joints: Joint[]
  /** Where each group ends up: its centre, the row it was last merged in, its layers. */
  roots: { x: number; y: number; layers: number[] }[]
  height: number
}

/** Which layers became one, and in which order: leaves at the top in layer order, one row a merge. */
export function mergeTree(
  n: number,
  steps: readonly MergeStep[],
  size: { width: number; row: number; top: number },
): MergeTree {
  const { width, row, top } = size
  const leaf = (layer: number) => ((layer + 0.5) * width) / n
  const live = Array.from({ length: n }, (_, layer) => ({ x: leaf(layer), y: 0, layers: [layer] }))
  const joints = steps.map((step, index): Joint => {
    const at = live.findIndex(node => node.layers[0] === step.groups[0][0])
    const [a, b] = [live[at]!, live[at + 1]!]
    const y = top + index * row
    const layers = [...a.layers, ...b.layers]
    live.splice(at, 2, { x: (leaf(layers[0]!) + leaf(layers.at(-1)!)) / 2, y, layers })
    return {
      step: index + 1,
      x1: a.x,
      x2: b.x,
      y,
      y1: a.y,
      y2: b.y,
      similarity: step.similarity,
      label: `merge ${index + 1}: layers ${a.layers.join(' ')} with ${b.layers.join(' ')}, similarity ${step.similarity.toFixed(3)}`,
    }
  })
  return { joints, roots: live, height: top + Math.max(0, steps.length - 1) * row }
}

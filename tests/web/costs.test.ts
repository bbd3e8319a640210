import { describe, expect, test } from 'vitest'
import { costPlot, costWords, mostRemoved, nextCounts, reach, verdictOf, type Cost } from '../../www/charts/costs'

const cost = (removed: number, kl: number, agreement: number, perplexity = 7 * Math.exp(kl), size = 1200): Cost => ({
  removed,
  bytes: size - 90 * removed,
  perplexity,
  kl,
  agreement,
  collapsed: perplexity > 70,
})
const demo = { layers: 12, bytes: 1200, perplexity: 7 }
/** The demo's own: seven layers were planted. */
const planted = (removed: number) =>
  removed <= 7 ? cost(removed, 0.0001 * removed, 0.99) : cost(removed, 0.5 * (removed - 7), 0.6 - 0.1 * (removed - 7))
/** SmolLM2's, which rise evenly until half of it is gone. */
const SMOL: [number, number, number][] = [
  [1, 0.046, 0.88],
  [2, 0.093, 0.84],
  [4, 0.196, 0.765],
  [8, 0.413, 0.67],
]
const smol = { layers: 30, bytes: 98_400_000, perplexity: 26.6 }

describe('what is measured', () => {
  test('few models first, then closer to where the goal is missed, until the two are neighbours', () => {
    const costs: Cost[] = []
    const asked: number[][] = []
    for (let next = nextCounts(costs, demo, 'jump'); next.length > 0; next = nextCounts(costs, demo, 'jump')) {
      asked.push(next)
      costs.push(...next.map(planted))
    }
    expect(asked).toEqual([[1, 2, 4], [8], [6], [7]])
    expect(reach(costs, demo, 'jump')).toBe(7)
  })

  test('a model of any depth and any cost is measured in at most thirteen models, each once, and one layer stays', () => {
    for (let layers = 2; layers <= 80; layers++) {
      for (const knee of [0, 1, 2, 3, 5, 9, 17, 33, 60]) {
        const whole = { layers, bytes: 1e6, perplexity: 7 }
        const at = (removed: number) => cost(removed, removed <= knee ? 0.001 : 3, removed <= knee ? 0.99 : 0.2, 9, 1e6)
        const costs: Cost[] = []
        for (let next = nextCounts(costs, whole, 0.95); next.length > 0; next = nextCounts(costs, whole, 0.95))
          costs.push(...next.map(at))
        const counts = costs.map(each => each.removed)
        expect(new Set(counts).size, `${layers}, ${knee}`).toBe(counts.length)
        expect(counts.length).toBeLessThanOrEqual(13)
        expect(Math.min(...counts)).toBeGreaterThan(0)
        expect(Math.max(...counts)).toBeLessThan(layers)
        expect(reach(costs, whole, 0.95), `${layers}, ${knee}`).toBe(Math.min(knee, mostRemoved(layers)))
      }
    }
  })

  test('goes on from what a stop has left', () => {
    expect(nextCounts([planted(1)], demo, 'jump')).toEqual([2])
    expect(nextCounts([1, 2, 4].map(planted), demo, 'jump')).toEqual([8])
  })
})

describe('how far one can go', () => {
  const costs = SMOL.map(([removed, kl, agreement]) => cost(removed, kl, agreement, 26.6 * Math.exp(kl)))

  test('by a share of next words, or before the cost jumps', () => {
    expect(reach(costs, smol, 0.95)).toBe(0)
    expect(reach(costs, smol, 0.85)).toBe(1)
    expect(reach(costs, smol, 0.8)).toBe(2)
    // Costs rise evenly, and beyond four layers more than one word in four changes.
    expect(reach(costs, smol, 'jump')).toBe(4)
  })

  test('a jump from next to nothing to very little is none', () => {
    const near = [cost(1, 0.004, 0.98), cost(2, 0.03, 0.96), cost(4, 0.6, 0.7)]
    expect(reach(near, demo, 'jump')).toBe(2)
  })

  test('never past a model that collapsed, or one beyond which all is lost', () => {
    const worse = [cost(1, 0.001, 0.99), cost(2, 0.01, 0.5), cost(4, 0.002, 0.99)]
    expect(reach(worse, demo, 0.9)).toBe(1)
    expect(reach([cost(1, 0.1, 0.99, 700)], demo, 0.9)).toBe(0)
  })

  test('a model that can spare nothing is told so, before anything is written', () => {
    // stories260K: five layers, the two that are most alike are not.
    const small = { layers: 5, bytes: 1e6, perplexity: 7.3 }
    const lost = [cost(1, 0.68, 0.58, 12.9)]
    expect(reach(lost, small, 'jump')).toBe(0)
    const said = verdictOf(lost, small, 'jump')
    expect(said).toContain('This model has little to give.')
    expect(said).toContain('42\u00a0% of next words change and perplexity is 77\u00a0% more than the original')
    expect(said).toContain('fewer bits')
  })

  test('the verdict names the number, the size, the words and the jump', () => {
    const said = verdictOf([1, 2, 4, 6, 7, 8].map(planted), demo, 'jump')
    expect(said).toContain('7 of 12 layers can go.')
    expect(said).toContain('53\u00a0% smaller and the model hardly changes: 99\u00a0% of next words stay the same.')
    expect(said).toContain('With 8 removed KL goes from')
    expect(verdictOf([], demo, 'jump')).toBe('')
  })

  test('numbers that were measured, and sizes of those that were not', () => {
    const some = [1, 2, 4].map(planted)
    expect(costWords(some, demo, 0)).toBe('The original.')
    expect(costWords(some, demo, 2)).toContain('15\u00a0% smaller')
    expect(costWords(some, demo, 3)).toBe('About 930\u00a0bytes. Not measured.')
    expect(costWords([], demo, 6)).toBe('About 600\u00a0bytes. Not measured.')
  })
})

test('the plot holds every model, and marks what lies above it', () => {
  const costs = [1, 2, 4, 6, 7, 8, 9].map(planted)
  const beside = [
    { name: 'Q4_K_M', bytes: 700, kl: 0.002 },
    { name: 'Q2_K', bytes: 10, kl: 0.001 },
  ]
  const plot = costPlot(costs, demo, { width: 600, height: 200, far: 7, beside })
  expect(plot.marks.map(mark => mark.cost.removed)).toEqual([1, 2, 4, 6, 7, 8, 9])
  for (const { x, y } of plot.marks) {
    expect(x).toBeGreaterThan(0)
    expect(x).toBeLessThanOrEqual(600)
    expect(y).toBeGreaterThanOrEqual(0)
    expect(y).toBeLessThanOrEqual(200)
  }
  expect(plot.marks.filter(mark => mark.above).map(mark => mark.cost.removed)).toEqual([8, 9])
  // One in fewer bits stands at its size; one smaller than any model here does not.
  expect(plot.others.map(other => other.name)).toEqual(['Q4_K_M'])
  expect(plot.others[0]!.x).toBeCloseTo((600 * (1200 - 700)) / (90 * 9), 6)
})

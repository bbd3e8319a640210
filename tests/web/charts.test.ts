import { describe, expect, test } from 'vitest'
import { colourOf, domainFor, legend } from '../../www/charts/colour'
import { curveChart } from '../../www/charts/curve'
import { matrixCsv } from '../../www/charts/export'
import { cellLabel, groupSquares, layerTicks, matrixChart, moveInGrid } from '../../www/charts/matrix'
import { mergeTree } from '../../www/charts/merges'
import { countAbove, neighbours, type Neighbour } from '../../www/charts/neighbours'
import { outcomeChart } from '../../www/charts/outcome'
import { ranks, scatterChart } from '../../www/charts/scatter'
import { outcomeArray, outcomeTable } from '../../www/figures/figures'
import { groupsOf } from '../../www/plan/hand'
import { fittedPlan, goldenPlan, stored, rounded } from './stored'

describe('colour', () => {
  test('the ends and the middle of each palette', () => {
    expect([0, 0.5, 1].map(v => colourOf(v))).toEqual(['#440154', '#21918c', '#fde725'])
    expect([0, 0.5, 1].map(v => colourOf(v, 'cividis'))).toEqual([
      'rgb(0, 32, 81)',
      'rgb(127, 124, 117)',
      'rgb(253, 234, 69)',
    ])
  })
  test('values outside the domain get its ends', () => {
    expect(colourOf(-3)).toBe(colourOf(0))
    expect(colourOf(0.4, 'viridis', [0.5, 1])).toBe(colourOf(0))
  })
  test('similarity of maps is always 0 to 1; other metrics start near their smallest value', () => {
    expect(
      domainFor('mi', [
        [1, 0.95],
        [0.95, 1],
      ]),
    ).toEqual([0, 1])
    expect(
      domainFor('cosine', [
        [1, 0.87],
        [0.87, 1],
      ]),
    ).toEqual([0.8, 1])
    expect(
      domainFor('cosine', [
        [1, 0.999],
        [0.999, 1],
      ]),
    ).toEqual([0.9, 1])
    expect(domainFor('cosine', [])).toEqual([0.9, 1])
  })
  test('legend labels carry numbers at their places', () => {
    expect(legend('viridis', [0, 1], 4).labels.map(l => [l.value, rounded(l.at)])).toEqual([
      [0, 0],
      [0.2, 0.2],
      [0.4, 0.4],
      [0.6, 0.6],
      [0.8, 0.8],
      [1, 1],
    ])
    expect(legend('viridis', [0.8, 1], 4).stops.map(s => rounded(s.value))).toEqual([0.825, 0.875, 0.925, 0.975])
  })
})

describe('matrix', () => {
  const options = { cell: 10, palette: 'viridis', domain: [0, 1] } as const

  test('cells of the stored demo: place, value, colour', () => {
    const { rows, side } = matrixChart(12, stored.similarity, options)
    expect(side).toBe(120)
    expect(rows[1]![2]).toEqual({
      row: 1,
      col: 2,
      x: 20,
      y: 10,
      value: stored.similarity[2]![1],
      fill: colourOf(stored.similarity[2]![1]!),
      label: 'layers 1 and 2: similarity 0.929',
    })
    expect(rows.every((row, i) => row[i]!.value === 1)).toBe(true)
  })
  test('a run that is half done mirrors what there is and leaves the rest empty', () => {
    const { rows } = matrixChart(3, [[1], [0.5, 1]], options)
    expect(rows.map(row => row.map(cell => cell.value))).toEqual([
      [1, 0.5, null],
      [0.5, 1, null],
      [null, null, null],
    ])
    expect(rows[2]![0]).toMatchObject({ fill: null, label: 'layers 0 and 2: not computed yet' })
  })
  test('an empty row, as metrics that need all layers send, is not computed yet', () => {
    expect(
      matrixChart(2, [[], []], options)
        .rows.flat()
        .map(cell => cell.value),
    ).toEqual([null, null, null, null])
  })
  test('labels in words', () => {
    expect(cellLabel(4, 4, 1)).toBe('layer 4 with itself: similarity 1.000')
    expect(cellLabel(7, 2, 0.25)).toBe('layers 2 and 7: similarity 0.250')
  })
  test('ticks thin out as cells shrink', () => {
    expect(layerTicks(4, 20)).toEqual([0, 1, 2, 3])
    expect(layerTicks(12, 5)).toEqual([0, 5, 10])
    expect(layerTicks(80, 6).length).toBe(16)
  })
  test('squares around fused layers', () => {
    expect(groupSquares([[0], [1, 2, 3], [4, 5]], 10)).toEqual([
      { x: 10, side: 30 },
      { x: 40, side: 20 },
    ])
  })
  test('keys of the grid pattern stay inside', () => {
    expect(moveInGrid('ArrowUp', false, [0, 3], 12)).toEqual([0, 3])
    expect(moveInGrid('ArrowRight', false, [2, 3], 12)).toEqual([2, 4])
    expect(moveInGrid('End', true, [2, 3], 12)).toEqual([11, 11])
    expect(moveInGrid('Home', false, [2, 3], 12)).toEqual([2, 0])
    expect(moveInGrid('a', false, [2, 3], 12)).toBeNull()
  })
})

describe('scatter', () => {
  test('both axes have one scale and the map stays inside', () => {
    const { dots } = scatterChart(
      [
        [0, 0],
        [2, 0],
        [0, 1],
      ],
      { width: 224, height: 224, palette: 'viridis', colourBy: [0, 1, 2] },
    )
    expect(dots.map(d => [rounded(d.x), rounded(d.y)])).toEqual([
      [12, 162],
      [212, 162],
      [12, 62],
    ])
    expect(dots.map(d => d.fill)).toEqual(['#440154', '#21918c', '#fde725'])
  })
  test('equal points and a map of one dimension are drawn, not divided by zero', () => {
    const { dots } = scatterChart([[1], [1]], { width: 100, height: 100, palette: 'viridis', colourBy: [0, 0] })
    expect(dots.map(d => [d.x, d.y])).toEqual([
      [50, 50],
      [50, 50],
    ])
  })
  test('ranks spread evenly and break ties by place', () => {
    expect(ranks([5, -100, 5])).toEqual([0.5, 0, 1])
    expect(ranks([3])).toEqual([0])
  })
})

/** The groups that chosen pairs make. */
function chains(pairs: readonly Neighbour[]): number[][] {
  const absorb = pairs.filter(pair => pair.chosen).map(pair => pair.layer + 1)
  return groupsOf({ absorb, exact: null }, pairs.length + 1)
}

describe('neighbours', () => {
  const choose = (choice: { remove: number | null; min_similarity: number | null }) =>
    neighbours(stored.similarity, choice, 'viridis', [0, 1])

  test('the seven most alike pairs of the demo are its planted groups', () => {
    expect(chains(choose({ remove: 7, min_similarity: null }))).toEqual([
      [0],
      [1, 2, 3],
      [4, 5, 6],
      [7, 8, 9],
      [10, 11],
    ])
  })
  test('by similarity', () => {
    expect(chains(choose({ remove: null, min_similarity: 0.9 })).length).toBe(5)
    expect(choose({ remove: null, min_similarity: 1 }).some(pair => pair.chosen)).toBe(false)
  })
  test('no run longer than allowed: what would lengthen one makes room for the next', () => {
    const matrix = [0.9, 0.8, 0.7, 0.6].reduce(
      (rows, s, l) => {
        rows[l]![l + 1] = rows[l + 1]![l] = s
        return rows
      },
      Array.from({ length: 5 }, (_, l) => Array.from({ length: 5 }, (_, m) => Number(l === m))),
    )
    const groups = (longest_run: number | null, remove: number | null = 3) =>
      chains(
        neighbours(matrix, { remove, min_similarity: remove === null ? 0.65 : null, longest_run }, 'viridis', [0, 1]),
      )
    expect(groups(null)).toEqual([[0, 1, 2, 3], [4]])
    expect(groups(3)).toEqual([
      [0, 1, 2],
      [3, 4],
    ])
    expect(groups(2)).toEqual([[0, 1], [2, 3], [4]])
    expect(groups(2, null)).toEqual([[0, 1], [2, 3], [4]])
  })
  test('by Block Influence too: runs whose ends are alike and that do little, as tests/engine/plan.rs has them', () => {
    const rows = [
      [1, 0.9, 0.8, 0.2, 0.2],
      [0.9, 1, 0.8, 0.4, 0.2],
      [0.8, 0.8, 1, 0.5, 0.4],
      [0.2, 0.4, 0.5, 1, 0.7],
      [0.2, 0.2, 0.4, 0.7, 1],
    ]
    const influence = [1, 0.9, 0.1, 0.02, 0.1]
    const chosen = (choice: object) =>
      neighbours(rows, { remove: null, min_similarity: null, influence, ...choice }, 'viridis', [0, 1])
        .filter(pair => pair.chosen)
        .toSorted((a, b) => a.rank - b.rank)
        .map(pair => pair.layer)
    expect(chosen({ remove: 1 })).toEqual([3])
    expect(chosen({ remove: 2 })).toEqual([2, 3])
    expect(chosen({ remove: 2, longest_run: 2 })).toEqual([3, 0])
    expect(chosen({ remove: 3, longest_run: 2 })).toEqual([3, 0])
    expect(chosen({ remove: 1, locked: [4] })).toEqual([2])
    expect(chosen({ min_similarity: 0.75 })).toEqual([0, 1])
    expect(chosen({ remove: 2, influence: [] })).toEqual([0, 1])
    // What writes a massive activation is not absorbed, and before it nothing is.
    const massive = (choice: object, layers: number[]) =>
      neighbours(rows, { remove: 1, min_similarity: null, ...choice }, 'viridis', [0, 1], layers)
        .filter(pair => pair.chosen)
        .map(pair => pair.layer)
    expect([
      massive({ influence }, [4]),
      massive({ influence, release_massive: true }, [4]),
      massive({ influence }, [3]),
      massive({}, [2]),
    ]).toEqual([[0], [3], [3], [0]])
    expect(
      chains(
        neighbours(
          stored.similarity,
          { remove: 7, min_similarity: null, longest_run: 4, influence: stored.block_influence },
          'viridis',
          [0, 1],
        ),
      ),
    ).toEqual([[0], [1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11]])
  })
  test('ties go to the deeper pair', () => {
    const tied = [[1], [0.5, 1], [0.1, 0.5, 1]]
    expect(neighbours(tied, { remove: 1, min_similarity: null }, 'viridis', [0, 1]).map(pair => pair.chosen)).toEqual([
      false,
      true,
    ])
  })
  test('suggested number of layers', () => {
    expect(countAbove(stored.similarity, 0.9)).toBe(7)
    expect(countAbove([[1]], 0.9)).toBe(0)
  })
})

describe('merge tree', () => {
  test('joints and roots of the golden plan', async () => {
    const { plan } = await goldenPlan(7)
    const { joints, roots, height } = mergeTree(12, plan.steps, { width: 120, row: 10, top: 20 })
    expect(joints[0]).toMatchObject({ step: 1, x1: 25, x2: 35, y: 20, y1: 0, y2: 0 })
    expect(joints[2]).toMatchObject({
      x1: 15,
      x2: 30,
      y: 40,
      y1: 0,
      y2: 20,
      label: 'merge 3: layers 1 with 2 3, similarity 0.929',
    })
    expect(roots.map(root => root.layers)).toEqual(plan.groups)
    expect(height).toBe(80)
  })
})

describe('curve', () => {
  test('rises to the right, and shows the collapse only where it is in sight', async () => {
    const size = { width: 100, height: 100 }
    const seven = curveChart(await goldenPlan(7), size)
    expect(seven.points.map(p => p.removed)).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
    expect(seven.points.every((p, i, all) => i === 0 || p.y <= all[i - 1]!.y)).toBe(true)
    expect(seven.points.at(-1)!.x).toBe(100)
    expect(seven.collapse).toBeNull()
    const nine = curveChart(await goldenPlan(9), size)
    expect(nine.collapse).not.toBeNull()
    expect(nine.points.map(p => p.collapsed)).toEqual([...Array(9).fill(false), true])
  })
})

describe('the outcome of a plan that is measured once', () => {
  const frame = { width: 200, row: 20 }
  test('three models on one axis, the better nearer to the original', async () => {
    const report = await fittedPlan(7)
    for (const measure of ['perplexity', 'kl'] as const) {
      const { marks, original, collapse } = outcomeChart(report, { ...frame, measure })
      expect(marks.map(mark => [mark.name, mark.y])).toEqual([
        ['original', 10],
        ['merged', 30],
        ['dropped', 50],
      ])
      expect(marks[0]!.x).toBe(original)
      expect(marks[0]!.x).toBeLessThan(marks[1]!.x)
      expect(marks[1]!.x).toBeLessThan(marks[2]!.x)
      expect(collapse).toBeNull()
    }
  })
  test('what is not finite lies at the end, what is not there is left out, and a collapse is in sight', async () => {
    const report = await fittedPlan(9)
    expect(outcomeChart(report, { ...frame, measure: 'perplexity' }).collapse).toBeGreaterThan(0)
    const broken = {
      ...report,
      merged: { ...report.merged, perplexity: Infinity, kl: null },
      dropped: { ...report.dropped, kl: NaN },
    }
    expect(outcomeChart(broken, { ...frame, measure: 'perplexity' }).marks[1]).toMatchObject({
      x: 200,
      label: 'not finite',
    })
    expect(outcomeChart(broken, { ...frame, measure: 'kl' }).marks.map(mark => mark.name)).toEqual(['original'])
  })
  test('the table has a line a model', async () => {
    const report = await fittedPlan(7)
    expect(outcomeTable(report).rows.map(row => row.slice(0, 2))).toEqual([
      ['original', 12],
      ['merged', 5],
      ['dropped', 5],
    ])
    expect(outcomeArray(report).shape).toEqual([3, 6])
  })
})

test('a matrix as comma-separated text', () => {
  expect(
    matrixCsv([
      [1, 0.5],
      [0.5, 1],
    ]),
  ).toBe('layer,0,1\n0,1,0.5\n1,0.5,1\n')
})

import { describe, expect, test } from 'vitest'
import { pixelsOf, rectangles } from '../../www/charts/pixels'
import { divergingScale, offDiagonal, sequentialScale, SIDES, signColour } from '../../www/charts/scale'
import { similarityElbow } from '../../www/charts/elbow'
import { similarityCurve } from '../../www/charts/similarities'
import { neighbours } from '../../www/charts/neighbours'
import {
  around,
  block,
  cellSide,
  contains,
  fitted,
  following,
  partSide,
  rangeTicks,
  whole,
  zoomed,
} from '../../www/charts/view'
import { goldenPlan, rounded, stored } from './stored'

describe('scales', () => {
  const values = [0.1, 0.2, 0.2, 0.9]

  test('linear keeps the domain', () => {
    const scale = sequentialScale('linear', values, [0, 1], 'viridis')
    expect([0, 0.5, 1, 7].map(scale.place)).toEqual([0, 0.5, 1, 1])
    expect(scale.colour(0)).toBe('#440154')
    expect(scale.centre).toBeNull()
  })
  test('by rank spreads evenly, equal values alike, the diagonal at the end', () => {
    const scale = sequentialScale('rank', values, [0, 1], 'viridis')
    expect([0.1, 0.2, 0.9, 1].map(value => rounded(scale.place(value)))).toEqual([0, 0.5, 1, 1])
    expect(scale.labels.map(label => label.text)).toEqual(['0.1', '0.175', '0.2', '0.375', '0.9'])
  })
  test('clipped leaves the outliers outside and says so', () => {
    const many = [...Array.from({ length: 100 }, (_, i) => 0.5 + i / 1000), 0, 1]
    const scale = sequentialScale('clipped', many, [0, 1], 'viridis')
    expect(scale.place(0.5)).toBeLessThan(0.05)
    expect(scale.place(0.6)).toBeGreaterThan(0.95)
    expect(scale.ends[0]).toMatch(/^0\.50\d and less$/)
  })
  test('all alike is the middle, and nothing at all is no error', () => {
    expect(sequentialScale('clipped', [0.5, 0.5], [0, 1], 'viridis').place(0.5)).toBe(0.5)
    expect(sequentialScale('rank', [], [0, 1], 'viridis').place(0.5)).toBe(0.5)
    expect(divergingScale('linear', []).place(0)).toBe(0.5)
  })
  test.each(['linear', 'rank', 'clipped'] as const)(
    'a %s diverging scale has nothing in its middle, and signs apart',
    kind => {
      const scale = divergingScale(kind, [-0.4, 0.1, 0.2, -0.05])
      expect(scale.centre).toBe(0.5)
      expect(scale.place(0)).toBe(0.5)
      expect(scale.place(0.1)).toBeCloseTo(1 - scale.place(-0.1))
      const [less, more] = [scale.colour(-0.4), scale.colour(0.4)].map(colour => colour.match(/\d+/g)!.map(Number)) as [
        number[],
        number[],
      ]
      // Orange has more red than blue, purple more blue than red.
      expect([less[0]! > less[2]!, more[0]! > more[2]!]).toEqual([true, false])
      expect(scale.labels[2]!.text).toBe('0')
    },
  )
  test('the words for the two sides are those of the colours, on a scale and of a single value', () => {
    /** Orange has more red than blue, purple more blue than red. */
    const word = (colour: string) => {
      const [red, , blue] = colour.match(/\d+/g)!.map(Number)
      return red! > blue! ? 'orange' : 'purple'
    }
    expect([signColour(0.5, 0.5), signColour(-0.5, 0.5)].map(word)).toEqual([SIDES.above, SIDES.below])
    const scale = divergingScale('linear', [-0.5, 0.5])
    expect([scale.colour(0.5), scale.colour(-0.5)].map(word)).toEqual([SIDES.above, SIDES.below])
    expect(signColour(9, 0.5)).toBe(signColour(0.5, 0.5))
    const [red, green, blue] = signColour(0, 0.5).match(/\d+/g)!.map(Number)
    expect(Math.min(red!, green!, blue!)).toBeGreaterThan(230)
  })
  test('each pair once', () => {
    expect(offDiagonal([[1], [0.5, 1], [], [0.1, 0.2, 0.3, 1]])).toEqual([0.5, 0.1, 0.2, 0.3])
  })
})

describe('pixels', () => {
  const scale = sequentialScale('linear', [], [0, 1], 'viridis')

  test('mirrored, and transparent where nothing is computed', () => {
    const bytes = pixelsOf(3, [[1], [0, 1]], scale)
    const at = (row: number, col: number) => [...bytes.slice((row * 3 + col) * 4, (row * 3 + col) * 4 + 4)]
    expect(at(1, 0)).toEqual([68, 1, 84, 255])
    expect(at(0, 1)).toEqual(at(1, 0))
    expect(at(1, 1)).toEqual([253, 231, 37, 255])
    expect(at(2, 1)).toEqual([0, 0, 0, 0])
  })
  test('equal neighbours are one rectangle in a saved picture', () => {
    expect(rectangles(2, [[1], [1, 1]], scale, whole(2), 10)).toEqual([
      { x: 0, y: 0, width: 20, fill: '#fde725' },
      { x: 0, y: 10, width: 20, fill: '#fde725' },
    ])
    expect(rectangles(3, stored.similarity, scale, { row: 1, col: 2, rows: 1, cols: 1 }, 10)).toEqual([
      { x: 0, y: 0, width: 10, fill: scale.colour(stored.similarity[1]![2]!) },
    ])
  })
  test('128 layers take far less than a frame', () => {
    const matrix = Array.from({ length: 128 }, (_, l) =>
      Array.from({ length: 128 }, (_, m) => 1 / (1 + Math.abs(l - m))),
    )
    const made = () => {
      const start = performance.now()
      pixelsOf(128, matrix, sequentialScale('rank', offDiagonal(matrix), [0, 1], 'viridis'))
      return performance.now() - start
    }
    made()
    expect(Math.min(made(), made(), made())).toBeLessThan(16)
  })
})

describe('the part that is shown', () => {
  test('a block has its corners in any order', () => {
    expect(block([5, 2], [3, 8])).toEqual({ row: 3, col: 2, rows: 3, cols: 7 })
  })
  test('stays inside and is never smaller than two cells', () => {
    expect(fitted({ row: 11, col: -3, rows: 1, cols: 40 }, 12)).toEqual({ row: 10, col: 0, rows: 2, cols: 12 })
    expect(fitted(whole(1), 1)).toEqual(whole(1))
  })
  test('zooming keeps the cell where it is, and every step is one', () => {
    const near = zoomed(whole(128), 2, [32, 96], 128)
    expect(near).toEqual({ row: 16, col: 48, rows: 64, cols: 64 })
    expect(contains(near, [32, 96])).toBe(true)
    let view = whole(5)
    for (let i = 0; i < 4; i++) view = zoomed(view, 1.1, [4, 4], 5)
    expect(view.rows).toBe(2)
    for (let i = 0; i < 4; i++) view = zoomed(view, 0.95, [4, 4], 5)
    expect(view).toEqual(whole(5))
  })
  test('follows a cell that leaves it', () => {
    expect(following({ row: 0, col: 0, rows: 4, cols: 4 }, [5, 1], 12)).toEqual({ row: 2, col: 0, rows: 4, cols: 4 })
  })
  test('cells around one of them stay inside, and are fewer where there are fewer', () => {
    expect(around(20, 0, 128, 4)).toEqual([18, 19, 20, 21])
    expect([around(1, 0, 128, 4), around(127, 0, 128, 4)]).toEqual([
      [0, 1, 2, 3],
      [124, 125, 126, 127],
    ])
    expect(around(9, 8, 3, 4)).toEqual([8, 9, 10])
  })
  test('cells are whole pixels of the screen where they can be', () => {
    expect(cellSide(580, whole(128), 1)).toBe(4)
    expect(cellSide(580, whole(128), 2)).toBe(4.5)
    expect(cellSide(300, whole(1000), 1)).toBe(0.3)
    expect(cellSide(580, whole(2), 1)).toBe(56)
    // A part is drawn in the room of the whole, whatever is zoomed to: closer is larger.
    const sides = [12, 8, 5, 3, 2].map(cells =>
      partSide(580, fitted({ row: 0, col: 0, rows: cells, cols: cells }, 12), 12, 1),
    )
    expect(sides).toEqual([48, 72, 115, 192, 288])
    expect([5, 2].map(cells => partSide(580, fitted({ row: 0, col: 0, rows: cells, cols: cells }, 5), 5, 1))).toEqual([
      56, 140,
    ])
  })
  test('ticks of a part are multiples that lie in it', () => {
    expect(rangeTicks(3, 6, 20)).toEqual([3, 4, 5, 6, 7, 8])
    expect(rangeTicks(33, 30, 4)).toEqual([35, 40, 45, 50, 55, 60])
  })
})

describe('similarities of merges', () => {
  test('the elbow of the demo is where its planted layers end', () => {
    const descending = neighbours(stored.similarity, { remove: 0, min_similarity: null }, 'viridis', [0, 1])
      .map(pair => pair.similarity)
      .sort((a, b) => b - a)
    expect(similarityElbow(descending)).toBe(7)
  })
  test('what falls evenly has none', () => {
    expect(similarityElbow([0.9, 0.8, 0.7, 0.6])).toBeNull()
    expect(similarityElbow([0.9, 0.1])).toBeNull()
    expect(similarityElbow([])).toBeNull()
  })
  test('what was made and its weights, where they are not the similarity', async () => {
    const pairs = neighbours(stored.similarity, { remove: 7, min_similarity: null }, 'viridis', [0, 1])
    const { plan } = await goldenPlan(8)
    const size = { width: 100, height: 100 }
    const made = similarityCurve(pairs, plan.steps, size)
    expect(made.made.map(point => point.merge)).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
    expect(made.made[7]!.y).toBeGreaterThan(made.made[6]!.y + 30)
    expect([made.elbow, made.alpha.length, made.ranked.length]).toEqual([7, 0, 11])
    const fixed = similarityCurve(
      pairs,
      plan.steps.map(step => ({ ...step, alpha: 0.5 })),
      size,
    )
    expect(fixed.alpha.every(point => point.y === 50)).toBe(true)
  })
})

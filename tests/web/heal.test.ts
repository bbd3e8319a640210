import { describe, expect, test } from 'vitest'
import { healingChart } from '../../www/charts/healing'
import type { HealPoint } from '../../www/engine/protocol/heal'
import { readingOf } from '../../www/heal/heal'

const point = (tokens: number, kl: number | null): HealPoint => ({
  tokens,
  loss: null,
  quality: { perplexity: 10, kl, top1_agreement: 0.7, collapsed: false },
  seconds: tokens / 100,
})

describe('the curve of a healing', () => {
  const frame = { width: 400, height: 100, expected: 4000, dropped: 1 }

  test('holds all tokens that are expected from the start, and falls as KL does', () => {
    const { marks, best, dropped, path } = healingChart([point(0, 0.8), point(1000, 0.6), point(2000, 0.7)], frame)
    expect(marks.map(mark => mark.x)).toEqual([0, 100, 200])
    expect(marks[1]!.y).toBeGreaterThan(marks[0]!.y)
    expect(best).toBe(1)
    expect(dropped).toBeLessThan(marks[0]!.y)
    expect(path).toMatch(/^M0,/)
  })

  test('leaves out a dropped model that would flatten it, and what could not be measured', () => {
    const chart = healingChart([point(0, 0.8), point(1000, null), point(2000, NaN)], { ...frame, dropped: 3 })
    expect(chart.dropped).toBeNull()
    expect(chart.marks).toHaveLength(1)
    expect(healingChart([], frame).words).toMatch(/nothing measured yet/)
  })
})

describe('what a healing was worth', () => {
  test('is the share of the KL that went away', () => {
    expect(readingOf([point(0, 0.5), point(1000, 0.4)], 1)).toMatch(/^Healing took away 20(\.0)? ?\u00a0?%/)
    expect(readingOf([point(0, 0.5), point(1000, 0.495)], 1)).toMatch(/next to nothing/)
  })

  test('is nothing where the model was best as it was', () => {
    expect(readingOf([point(0, 0.5), point(1000, 0.6)], 0)).toMatch(/stays as it was merged/)
  })

  test('says nothing where nothing was measured', () => {
    for (const points of [[], [point(0, 0.5)], [point(0, null), point(1000, 0.4)], [point(0, 0), point(1000, 0)]])
      expect(readingOf(points, points.length - 1)).toBe('')
  })
})

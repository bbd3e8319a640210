import { describe, expect, test, vi } from 'vitest'
import { columnsFor, fitMap, leftToRight, nearest } from '../../www/charts/dots'
import { mapSvg, multiplesSvg } from '../../www/charts/mapfigures'
import { colourChoices, pointColours, tokenName } from '../../www/charts/pointcolours'
import first from '../../www/open/demo-similarity.json'
import demo from '../../www/walk/demo-result.json'
import type { LayerMap } from '../../www/engine/protocol/engine'
import type { MapOptions } from '../../www/engine/protocol/maps'
import type { PointReport, SimilarityReport } from '../../www/engine/protocol/similarity'
import { Atlas, SPECTRUM } from '../../www/maps/atlas.svelte'
import { rowsOf } from '../../www/charts/points'
import { inContext, mapOf, mapsData, mapsOf, parametersOf, pointName } from '../../www/maps/maps'
import { mapNumbers, matrixNumbers } from '../../www/figures/numbers'
import { mapOf as mocked } from './mock/maps'

const report = demo as unknown as SimilarityReport
const run = parametersOf(report)
const wide = { ...run, bandwidth: 2 }

/** An atlas on an engine that answers when told to, or at once. */
function atlasOn({ hold = false, fail = '' } = {}) {
  const calls: MapOptions[] = []
  const waiting: (() => void)[] = []
  const engine = async (options: MapOptions): Promise<LayerMap[]> => {
    calls.push(options)
    if (hold) await new Promise<void>(resolve => waiting.push(resolve))
    if (fail) throw { kind: 'usage', message: fail }
    return options.layers.map(layer => mocked(report, layer, options))
  }
  let busy = false
  const atlas = new Atlas(report, engine, () => busy, 5)
  return {
    atlas,
    calls,
    answer: async () => {
      waiting.shift()?.()
      await new Promise(resolve => setTimeout(resolve))
    },
    setBusy: (value: boolean) => (busy = value),
  }
}

const settled = (atlas: Atlas) => vi.waitFor(() => expect(new Set(atlas.quality)).toEqual(new Set(['exact'])))

describe('maps that follow the sliders', () => {
  test('the enlarged layer comes first, then the others in turn, and all in full once the hand rests', async () => {
    const { atlas, calls } = atlasOn()
    atlas.show(wide, 7)
    await settled(atlas)
    expect(calls.slice(0, 4).map(call => [call.layers, call.sketch])).toEqual([
      [[7], true],
      [[0, 1, 2, 3], true],
      [[4, 5, 6, 8], true],
      [[9, 10, 11], true],
    ])
    expect(calls[4]).toEqual({ ...wide, layers: [7], sketch: false, eigenvalues: SPECTRUM })
    expect(calls.slice(5).every(call => !call.sketch && call.layers.length === 1)).toBe(true)
    expect(calls).toHaveLength(4 + report.layers)
    expect(atlas.maps.map(map => map.epsilon)).toEqual(report.epsilon.map(epsilon => 2 * epsilon))
  })

  test('while a slider moves every layer gets its turn, with the newest value', async () => {
    const { atlas, calls, answer } = atlasOn({ hold: true })
    for (let i = 1; i <= 8; i++) {
      atlas.show({ ...run, bandwidth: 1 + i / 8 }, 0)
      await answer()
    }
    expect(calls.filter(call => call.layers[0] === 0 && call.layers.length === 1).length).toBeGreaterThan(2)
    expect(new Set(calls.flatMap(call => call.layers)).size).toBe(report.layers)
    expect(calls.every(call => call.sketch)).toBe(true)
    expect(calls.at(-1)?.bandwidth).toBeGreaterThan(1.9)
  })

  test("back at the values of the run the maps are the run's, whatever arrives late", async () => {
    const { atlas, answer } = atlasOn({ hold: true })
    const before = atlas.maps
    atlas.show(wide, 0)
    atlas.show({ ...run }, 0)
    await answer()
    expect(atlas.maps).toEqual(before)
    expect(atlas.maps[0]?.coordinates).toBe(atlas.ofRun[0]?.coordinates)
  })

  test("the run's own map keeps its coordinates when its spectrum is completed", async () => {
    const { atlas, calls } = atlasOn()
    atlas.show({ ...run }, 3)
    await vi.waitFor(() => expect(atlas.maps[3]?.eigenvalues).toHaveLength(SPECTRUM))
    expect(calls).toEqual([{ ...run, layers: [3], sketch: false, eigenvalues: SPECTRUM }])
    expect(atlas.maps[3]?.coordinates).toBe(atlas.ofRun[3]?.coordinates)
  })

  test('nothing is asked for while the engine is busy', async () => {
    const { atlas, calls, setBusy } = atlasOn()
    setBusy(true)
    atlas.show(wide, 0)
    expect(calls).toEqual([])
    setBusy(false)
    atlas.show(wide, 0)
    await settled(atlas)
  })

  test('what the engine refuses is said, and asking again is possible', async () => {
    const { atlas } = atlasOn({ fail: 'The engine does not hold these maps any more.' })
    atlas.show(wide, 0)
    await vi.waitFor(() => expect(atlas.problem).toMatch(/does not hold/))
  })
})

describe('the picture of a map', () => {
  const square = mapOf(0, [
    [0, 0],
    [4, 0],
    [4, 2],
    [0, 2],
  ])

  test('has one scale for both axes and shows every point', () => {
    const { at, xTicks } = fitMap(square, { width: 120, height: 120, pad: 10 })
    expect([...at]).toEqual([10, 85, 110, 85, 110, 35, 10, 35])
    expect(xTicks.map(tick => tick.value)).toEqual([0, 1, 2, 3, 4])
    const all = mapsOf(report).flatMap(map => [...fitMap(map, { width: 90, height: 90, pad: 6 }).at])
    expect(all.filter(x => !(x > 5.9 && x < 84.1))).toEqual([])
  })

  test('of one dimension, of equal points or of none is drawn, not divided by zero', () => {
    for (const rows of [
      [[1], [2]],
      [
        [3, 3],
        [3, 3],
      ],
      [],
    ])
      expect([...fitMap(mapOf(0, rows), { width: 90, height: 90, pad: 6 }).at].every(Number.isFinite)).toBe(true)
  })

  test('finds the nearest point within reach', () => {
    const { at } = fitMap(square, { width: 120, height: 120, pad: 10 })
    expect([nearest(at, 12, 84, 8), nearest(at, 60, 60, 8), nearest(new Float32Array(), 0, 0, 8)]).toEqual([
      0,
      null,
      null,
    ])
    expect(leftToRight(at)).toEqual([0, 3, 1, 2])
  })

  test('stands in even rows', () => {
    expect([
      columnsFor(12, 1200, 88, 8),
      columnsFor(30, 1200, 88, 8),
      columnsFor(12, 358, 76, 8),
      columnsFor(1, 50, 88, 8),
    ]).toEqual([12, 10, 4, 1])
  })

  test('stands alone as SVG, with names that cannot break it', () => {
    const look = { colours: ['#123456'], ink: '#000', paper: '#fff', ground: '#eee' }
    const all = multiplesSvg(mapsOf(report), look, 'a <b> & c')
    expect(all.match(/<circle/g)).toHaveLength(report.layers * report.points.count)
    expect(all).toContain('<title>a &lt;b&gt; &amp; c</title>')
    expect(mapSvg(square, look, 'one')).toContain('1st coordinate of layer 0')
  })
})

describe('the numbers of the picture', () => {
  test('have the keys and the values of a report', () => {
    const data = mapsData(mapsOf(report), run, report.point_list)
    expect([data.embedding, data.eigenvalues, data.epsilon]).toEqual([
      report.embedding,
      report.eigenvalues,
      report.epsilon,
    ])
    expect(data.disconnected).toEqual(report.disconnected)
    expect(rowsOf(mapOf(0, []))).toEqual([])
  })

  test('are a line a point in their table, and those of the similarities a line a layer', () => {
    const map = mapOf(3, [
      [0.12345, -1],
      [2, 0],
    ])
    const points = [
      { sequence: 4, position: 6, text: 'a cat', token: ' cat' },
      { sequence: 5, position: -1, text: 'a dog' },
    ]
    expect(mapNumbers(map, points).head).toEqual(['text', 'position', 'token', 'coordinate 1', 'coordinate 2'])
    expect(mapNumbers(map, points).rows()).toEqual([
      [5, 7, 'cat', '0.1235', '-1.0000'],
      [6, 'all', 'none', '2.0000', '0.0000'],
    ])
    expect(mapNumbers(map, []).rows()).toEqual([
      [1, 'all', '0.1235', '-1.0000'],
      [2, 'all', '2.0000', '0.0000'],
    ])
    expect(
      matrixNumbers([
        [1, 0.5],
        [0.5, 1],
      ]),
    ).toMatchObject({ head: ['layer', 0, 1] })
    expect(
      matrixNumbers([
        [1, 0.5],
        [0.5, 1],
      ]).rows(),
    ).toEqual([
      [0, '1.000', '0.500'],
      [1, '0.500', '1.000'],
    ])
  })
})

describe('points', () => {
  const point = (sequence: number, position: number, token?: string): PointReport => ({
    sequence,
    position,
    text: `… once upon a${token ?? ' time'}`,
    ...(token === undefined ? {} : { token }),
  })
  const points = [point(0, 3, ' the'), point(0, 7, ' the'), point(1, 3, '.'), point(2, 7, '\n')]

  test('can be coloured by whatever tells them apart', () => {
    expect(colourChoices(points, 4).map(choice => choice.by)).toEqual(['place', 'text', 'position', 'token'])
    expect(colourChoices([point(0, 47), point(1, 47)], 4).map(choice => choice.by)).toEqual(['place', 'text'])
  })

  test('of one text or one token share a colour in all layers', () => {
    const map = mapOf(0, [
      [3, 0],
      [1, 0],
      [2, 0],
      [0, 0],
    ])
    const of = (by: Parameters<typeof pointColours>[0]) => pointColours(by, points, map, 'viridis')
    expect(new Set(of('text').colours.slice(0, 2)).size).toBe(1)
    expect(of('position').colours[0]).toBe(of('position').colours[2])
    expect(of('position').legend).toMatchObject({ ends: ['token 4', '8 of its text'] })
    expect(of('token').colours[0]).toBe(of('token').colours[1])
    expect(of('token').legend).toMatchObject({
      names: [
        { name: 'the', count: 2 },
        { name: '.', count: 1 },
        { name: '↵', count: 1 },
      ],
    })
    expect(new Set(of('place').colours).size).toBe(4)
  })

  test('of rare tokens share one colour, whose legend counts them', () => {
    const many = Array.from({ length: 20 }, (_, i) => point(i, 1, ` word${Math.min(i, 9)}`))
    const { legend, colours } = pointColours('token', many, mapOf(0, []), 'viridis')
    expect(legend.kind === 'names' && legend.names.at(-1)).toEqual({
      name: 'all others',
      count: 4,
      colour: colours.find((_, i) => i === 8),
    })
  })

  test('are named, and their token is found at the end of their text', () => {
    expect([pointName(point(11, 46)), pointName(point(0, -1))]).toEqual(['Text 12, token 47', 'Text 1, all tokens'])
    expect(inContext({ ...point(0, 1, ' upon'), text: '… once upon' })).toEqual({ before: '… once ', token: 'upon' })
    expect(inContext(point(0, 1)).token).toBe('')
    expect([tokenName(' '), tokenName(''), tokenName('\n')]).toEqual(['space', 'none', '↵'])
  })
})

test('the first screen shows the similarities of the demo that the walk has, too', () => {
  expect(first).toEqual({ layers: demo.layers, similarity: demo.similarity })
})

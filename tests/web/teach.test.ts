import { readFileSync } from 'node:fs'
import { beforeAll, describe, expect, test } from 'vitest'
import { corners, storedPoints, storedStarts } from '../../scripts/walk.mjs'
import facts from '../../www/walk/demo-facts.json'
import { fitChart, WAYS } from '../../www/walk/fit'
import { medianOf, normalised, pairsOf, squaredDistances } from '../../www/walk/distances'
import { eigen, type Eigen } from '../../www/walk/eigen'
import { groupsGuessed, mark, plantedBy } from '../../www/walk/guess'
import { costChart } from '../../www/walk/cost'
import { BANDWIDTHS, Geometry, MEDIAN } from '../../www/walk/geometry'
import { digammas, information, meanNats, similarityOf, standardised, type PlaneMap } from '../../www/walk/information'
import { aligned, diffusionMap, pattern, shareHeld } from '../../www/walk/map'
import { blended, enteringMerge, groupsBefore } from '../../www/walk/merging'
import {
  gaussian,
  picked,
  randomFrom,
  spread,
  stationary,
  stepChances,
  symmetricConjugate,
  variation,
} from '../../www/walk/operator'
import { unpackedPoints } from '../../www/walk/packed'
import { plane } from '../../www/walk/plane'
import { growthOf, idleLayers, LITTLE, riverOf } from '../../www/walk/stream'
import { addressOf, controlsAt, pageAt, SCREENS, screenFrom, screenOfTerm } from '../../www/words/screens'
import { dot, entryOf, rowSums, square, sum, times, type Square } from '../../www/walk/square'
import type { StoredMerge } from '../../www/walk/stored'
import { asMany } from '../../www/walk/travel.svelte'
import { Walker } from '../../www/walk/walker.svelte'
import { TERMS, type TermName } from '../../www/words/terms'
import { stored } from './stored'

/** What numpy and scipy make of the same activations, without the engine. */
const golden = JSON.parse(readFileSync('tests/data/stories-planted-12L.geometry.json', 'utf8')) as {
  epsilon: number[]
  eigenvalues: number[][]
  mutual_information: number[][]
  mi: number[][]
  absolute_embedding_of_layer_0: number[][]
}
const worst = (a: readonly number[], b: readonly number[]) => Math.max(...a.map((value, i) => Math.abs(value - b[i]!)))
const bytes = (path: string) => new Response(readFileSync(path)).body!

let starts: Float64Array[]
let points: Float64Array[][]
let epsilons: number[]
let kernels: Square[]
let eigens: Eigen[]
let maps: PlaneMap[]

beforeAll(async () => {
  ;[starts = [], ...points] = await unpackedPoints(bytes('www/walk/demo-points.bin'), facts.points)
  const distances = points.map(layer => squaredDistances(layer.map(normalised)))
  epsilons = distances.map(d2 => medianOf(pairsOf(d2)))
  kernels = distances.map((d2, layer) => gaussian(d2, epsilons[layer]!))
  eigens = kernels.map(w => eigen(symmetricConjugate(w)))
  maps = eigens.map(pairs => standardised(diffusionMap(pairs, 1)))
}, 60_000)

describe('stored activations', () => {
  test('are those of the model, to half a step, and small', () => {
    const original = Float32Array.of(...storedStarts(), ...storedPoints())
    const unpacked = [starts, ...points].flatMap(layer => layer.flatMap(point => Array.from(point)))
    expect(unpacked).toHaveLength(original.length)
    expect(unpacked.reduce((most, value, i) => Math.max(most, Math.abs(value - original[i]!)), 0)).toBeLessThanOrEqual(
      facts.points.step / 2 + 1e-6,
    )
    expect(readFileSync('www/walk/demo-points.bin').length).toBeLessThan(150_000)
  })
  test('damaged ones are refused', async () => {
    await expect(unpackedPoints(bytes('www/walk/demo-points.bin'), { ...facts.points, depths: 11 })).rejects.toThrow(
      'damaged',
    )
  })
  test('the corners of the weights are those of the model; planted layers write next to nothing', () => {
    expect(facts.weights).toEqual(corners())
    const size = facts.weights.map(corner => Math.sqrt(sum(corner.flat().map(w => w * w)) / 256))
    expect(size.flatMap((s, layer) => (s < 0.005 ? [layer] : []))).toEqual([2, 3, 5, 6, 8, 9, 11])
  })
})

describe('each step of the walk, on the stored activations, is that of numpy and of the engine', () => {
  test('bandwidths', () => {
    expect(worst(epsilons, golden.epsilon)).toBeLessThan(2e-2)
    expect(worst(epsilons, stored.epsilon)).toBeLessThan(2e-2)
  })
  test('eigenvalues', () => {
    for (const [layer, { values }] of eigens.entries()) {
      expect(worst(golden.eigenvalues[layer]!, [...values])).toBeLessThan(2e-5)
      expect(worst(stored.eigenvalues[layer]!, [...values])).toBeLessThan(2e-4)
    }
  })
  test('the map of the first layer, without its signs', () => {
    const [first, second] = diffusionMap(eigens[0]!, 1)
    expect(
      worst(
        golden.absolute_embedding_of_layer_0.map(p => p[0]!),
        [...first].map(Math.abs),
      ),
    ).toBeLessThan(2e-4)
    expect(
      worst(
        golden.absolute_embedding_of_layer_0.map(p => p[1]!),
        [...second].map(Math.abs),
      ),
    ).toBeLessThan(2e-4)
  })
  test('mutual information and similarity of every pair', () => {
    const shared = maps.map(left => maps.map(right => meanNats(information(left, right, 5))))
    const similarity = shared.map((row, l) =>
      row.map((value, m) => similarityOf(value, shared[l]![l]!, shared[m]![m]!)),
    )
    expect(worst(shared.flat(), golden.mutual_information.flat())).toBeLessThan(2e-2)
    expect(worst(similarity.flat(), golden.mi.flat())).toBeLessThan(6e-3)
    expect(worst(similarity.flat(), stored.similarity.flat())).toBeLessThan(6e-3)
  })
})

describe('the stream', () => {
  test('each layer turns it as the engine measured on all tokens, and the planted ones add next to nothing', () => {
    const growth = growthOf({ starts, points })
    growth.layers.forEach(({ turned }, layer) => {
      const ofEngine = stored.block_influence[layer]!
      expect([layer, Math.abs(turned - ofEngine) < 0.3 * ofEngine]).toEqual([layer, true])
    })
    expect(idleLayers(growth)).toEqual(plantedBy(stored.block_influence))
    expect(Math.min(...growth.layers.filter(({ share }) => share >= LITTLE).map(({ share }) => share))).toBeGreaterThan(
      0.6,
    )
  })
  test('sizes are those of sums: what is added is what leaves less what enters', () => {
    const one = growthOf({
      starts: [Float64Array.of(3, 4), Float64Array.of(0, 1)],
      points: [[Float64Array.of(3, 0), Float64Array.of(0, 2)]],
    })
    expect(one).toEqual({
      start: 3,
      layers: [{ size: 2.5, added: 2.5, share: 0.9, turned: expect.closeTo(0.2) as number }],
    })
  })
  test('the river holds every layer, and splits where the slider is', () => {
    const growth = growthOf({ starts, points })
    for (const chosen of [0, 5, 11]) {
      const { passed, ahead, inflows, middle } = riverOf(growth, chosen, 600, 200)
      expect(`${passed}${ahead}`).not.toContain('NaN')
      expect(inflows).toHaveLength(12)
      for (const [i, { x, width }] of inflows.entries()) {
        expect(width).toBeGreaterThanOrEqual(1)
        expect(x - width / 2).toBeGreaterThan(0)
        expect(x + width / 2).toBeLessThan(600)
        expect(x).toBeGreaterThan(inflows[i - 1]?.x ?? 0)
      }
      expect(middle).toBeLessThan(200)
      expect(passed).toContain(`${/^M([\d.]+),/.exec(ahead)![1]},`)
    }
  })
})

describe('theorems', () => {
  test('all chances of a step sum to 1, and the long run stays as it is', () => {
    const p = stepChances(kernels[4]!)
    expect(worst([...rowSums(p)], Array(128).fill(1))).toBeLessThan(1e-12)
    const pi = stationary(kernels[4]!)
    expect(worst([...spread(p, pi)], [...pi])).toBeLessThan(1e-15)
  })
  test('a walk from anywhere ends in the long run, faster than its second eigenvalue says', () => {
    const p = stepChances(kernels[4]!)
    const pi = stationary(kernels[4]!)
    let chances: Float64Array = Float64Array.from({ length: 128 }, (_, i) => (i === 7 ? 1 : 0))
    const far: number[] = []
    for (let t = 0; t < 6; t++) far.push(variation((chances = spread(p, chances)), pi))
    for (const [t, distance] of far.entries())
      expect(distance).toBeLessThanOrEqual(eigens[4]!.values[1]! ** (t + 1) / (2 * Math.sqrt(Math.min(...pi))))
    expect(far[5]).toBeLessThan(1e-5)
  })
  test('eigenpairs: orthonormal, P psi = lambda psi, trace kept, for a diagonal and a repeated eigenvalue too', () => {
    const a = symmetricConjugate(kernels[9]!)
    const { values, vectors } = eigens[9]!
    expect(values[0]).toBeCloseTo(1, 12)
    for (const [k, v] of vectors.entries()) {
      expect(
        worst(
          [...times(a, v)],
          [...v].map(x => values[k]! * x),
        ),
      ).toBeLessThan(1e-12)
      expect(
        worst(
          vectors.map(u => dot(u, v)),
          vectors.map((_, l) => (l === k ? 1 : 0)),
        ),
      ).toBeLessThan(1e-12)
    }
    expect(sum(values)).toBeCloseTo(sum(Array.from({ length: 128 }, (_, i) => entryOf(a, i, i))), 10)
    const psi = pattern(eigens[9]!, 2)
    expect(
      worst(
        [...times(stepChances(kernels[9]!), psi)],
        [...psi].map(x => values[2]! * x),
      ),
    ).toBeLessThan(1e-11)
    expect([...eigen(square(3, (i, j) => (i === j ? [1, 3, 2][i]! : 0))).values]).toEqual([3, 2, 1])
    expect(worst([4, 0, 0, 0], [...eigen(square(4, () => 1)).values])).toBeLessThan(1e-14)
    expect(
      [...eigen(square(1, () => 5)).values, ...eigen(square(2, (i, j) => (i === j ? 2 : 1))).values].map(
        v => Math.round(v * 1e12) / 1e12,
      ),
    ).toEqual([5, 3, 1])
  })
  test('all coordinates of a map hold all of the distance; two hold a part that grows with time', () => {
    expect(shareHeld(eigens[1]!, 1, 127)).toBeCloseTo(1, 12)
    expect(shareHeld(eigens[1]!, 3)).toBeGreaterThan(shareHeld(eigens[1]!, 1))
  })
  test('a map that was turned or mirrored is brought back, and nothing is stretched', () => {
    const [x, y] = maps[3]!
    for (const mirror of [1, -1]) {
      const turned: PlaneMap = [
        Float64Array.from(x, (v, i) => 0.6 * v - 0.8 * y[i]!),
        Float64Array.from(x, (v, i) => mirror * (0.8 * v + 0.6 * y[i]!)),
      ]
      const back = aligned(turned, maps[3]!)
      expect(worst([...back[0], ...back[1]], [...Array.from(x), ...Array.from(y)])).toBeLessThan(1e-12)
    }
  })
  test('a map tells all about itself, nothing about noise, and the same to either side', () => {
    const psi = digammas(128)
    expect(psi[3]).toBeCloseTo(0.9227843351, 9)
    expect(meanNats(information(maps[2]!, maps[2]!, 5))).toBeCloseTo(psi[128]! - psi[5]!, 12)
    const random = randomFrom(3)
    const noise = (): PlaneMap =>
      standardised([Float64Array.from({ length: 128 }, random), Float64Array.from({ length: 128 }, random)])
    expect(Math.abs(meanNats(information(noise(), noise(), 5)))).toBeLessThan(0.12)
    expect(meanNats(information(maps[0]!, maps[7]!, 5))).toBeCloseTo(meanNats(information(maps[7]!, maps[0]!, 5)), 12)
  })
  test('coinciding texts give finite numbers', () => {
    const clumps: PlaneMap = standardised([
      Float64Array.from({ length: 40 }, (_, i) => i % 4),
      Float64Array.from({ length: 40 }, (_, i) => i % 2),
    ])
    expect(Number.isFinite(meanNats(information(clumps, clumps, 5)))).toBe(true)
  })
  test('a number picks a text by its chance, always the same for a seed', () => {
    expect([0, 0.24, 0.26, 0.999].map(number => picked([1, 3, 0], number))).toEqual([0, 0, 1, 1])
    const [a, b] = [randomFrom(5), randomFrom(5)]
    const draws = Array.from({ length: 4000 }, a)
    expect(draws.slice(0, 9)).toEqual(Array.from({ length: 9 }, b))
    expect(Math.abs(sum(draws) / 4000 - 0.5)).toBeLessThan(0.02)
  })
})

describe('the self-test', () => {
  const planted = plantedBy(stored.block_influence)
  test('the answer is the planted one, by what each layer does', () => {
    expect(planted).toEqual([2, 3, 5, 6, 8, 9, 11])
    expect(groupsGuessed(planted, 12)).toEqual([[0], [1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11]])
  })
  test.each([
    [planted, 7, [], [], 'Each light block is one layer that works'],
    [[...planted, 1], 7, [1], [], 'Layer 1 does look like those after it'],
    [[...planted, 0], 7, [0], [], 'Layer 0 is in no light block'],
    [[2, 3, 5, 6, 8, 9], 6, [], [11], 'Look at the square of layers 10 and 11.'],
    [[], 0, [], planted, 'Look at the square of layers 1 and 2, and at how far'],
  ])('%j', (guess, right, wrong, missed, advice) => {
    const marked = mark(guess, planted, 12)
    expect([marked.right.length, marked.wrong, marked.missed]).toEqual([right, wrong, missed])
    expect(marked.advice).toContain(advice)
  })
})

describe('merges and their cost', () => {
  const planted = plantedBy(stored.block_influence)
  const merges = facts.merges as StoredMerge[]

  test('the first are those of the planted layers, one layer fewer each, of the model that the page shows', () => {
    expect(merges[planted.length - 1]!.groups).toEqual(groupsGuessed(planted, 12))
    expect(merges.map(({ groups }) => groups.length)).toEqual([11, 10, 9, 8, 7, 6, 5, 4, 3])
    expect(facts.perplexity).toBeCloseTo(stored.perplexity, 3)
  })
  test('the similarity of the first pair is its alpha', () => {
    const [left, right] = merges[0]!.merged
    expect(Math.abs(stored.similarity[left[0]!]![right[0]!]! - merges[0]!.alpha)).toBeLessThan(1e-3)
  })
  test('a merge blends what earlier merges made', () => {
    const corners = [[[1]], [[3]], [[5]], [[7]]]
    const merge = (merged: [number[], number[]], alpha: number) => ({ merged, alpha }) as StoredMerge
    expect(enteringMerge(corners, [merge([[1], [2]], 0.5)])).toEqual([[[3]], [[5]]])
    expect(enteringMerge(corners, [merge([[1], [2]], 0.5), merge([[1, 2], [3]], 0.25)])).toEqual([[[4]], [[7]]])
    expect(blended([[4]], [[7]], 0.25)).toEqual([[6.25]])
    expect(groupsBefore(merges, 0, 3)).toEqual([[0], [1], [2]])
    expect(groupsBefore(merges, 1, 12)).toEqual(merges[0]!.groups)
  })
  test.each(['perplexity', 'kl', 'agreement'] as const)(
    'the chart of %s: every merge is in it, worse is where it should be',
    measure => {
      const { merged, dropped, original, yTicks, x } = costChart({ merges, perplexity: facts.perplexity }, measure, {
        width: 400,
        height: 200,
      })
      expect([merged.dots.length, dropped.dots.length]).toEqual([9, 9])
      expect([...merged.dots, ...dropped.dots].every(dot => dot.x > 0 && dot.x < 400 && dot.y > 0 && dot.y < 200)).toBe(
        true,
      )
      expect(merged.dots[8]!.y > merged.dots[0]!.y).toBe(measure === 'agreement')
      expect(merged.dots[2]!.x).toBe(x(3))
      expect(yTicks.length).toBeGreaterThan(2)
      if (measure === 'perplexity') expect(original! > merged.dots[0]!.y).toBe(true)
    },
  )
})

describe('a walker', () => {
  test('steps as chances are, counts, and starts again the same', () => {
    const geometry = new Geometry(points)
    const walker = new Walker(
      () => geometry.graph(4, MEDIAN),
      () => 7,
    )
    const visited = () =>
      Array.from({ length: 50 }, () => {
        walker.step()
        return walker.at
      })
    const first = visited()
    expect(sum(walker.visits)).toBe(51)
    expect(sum(walker.spread)).toBeCloseTo(1, 12)
    expect(walker.fromLongRun).toBeLessThan(1e-12)
    expect(walker.chance).toBe(entryOf(geometry.graph(4, MEDIAN).p, walker.from!, walker.at))
    walker.restart()
    expect([walker.at, walker.steps, walker.chance]).toEqual([7, 0, null])
    expect(visited()).toEqual(first)
  })
  test('a narrow bandwidth holds it back: the second eigenvalue rises', () => {
    const geometry = new Geometry(points)
    const second = BANDWIDTHS.map((_, i) => geometry.graph(4, i).eigen.values[1]!)
    expect(second).toEqual(second.toSorted((a, b) => b - a))
    expect([second[0]! > 0.9, second[MEDIAN]! < 0.2]).toEqual([true, true])
    expect(geometry.graph(4, 0)).toBe(geometry.graph(4, 0))
  })
})

test('new points stand where they belong before others travel; those that are gone are gone', () => {
  const from = { x: [1, 2], y: [3, 4] }
  expect(asMany(from, { x: [5, 6], y: [7, 8] })).toBe(from)
  expect(asMany(from, { x: [5, 6, 9], y: [7, 8, 10] })).toEqual({ x: [1, 2, 9], y: [3, 4, 10] })
  expect(asMany(from, { x: [5], y: [7] })).toEqual({ x: [1], y: [3] })
})

describe('the picture of a map', () => {
  test('both ways have one scale, and all is inside', () => {
    const { x, y, unit } = plane(
      [
        [0, 2, 0],
        [0, 0, 1],
      ],
      236,
      236,
    )
    expect([unit, x, y]).toEqual([100, [18, 218, 18], [168, 168, 68]])
    expect(
      plane(
        [
          [1, 1],
          [1, 1],
        ],
        100,
        100,
      ).x,
    ).toEqual([50, 50])
  })
})

describe('the way', () => {
  test('every screen has an address, and no other fragment is one', () => {
    for (const { id } of SCREENS) expect(pageAt(addressOf(id))).toBe(id)
    expect(['#walk', '#walk/', '#walk/nowhere'].map(pageAt)).toEqual(['stream', 'stream', 'stream'])
    expect(['', '#see', '#walker', '#share=walk/kernel'].map(pageAt)).toEqual([null, null, null, null])
  })
  test('a fragment may carry the values of controls', () => {
    expect(pageAt('#walk/map?layer=3')).toBe('map')
    expect(pageAt('#walk?layer=3')).toBe('stream')
    expect(pageAt('#walk/answers')).toBe('answers')
    expect(controlsAt('#walk/map?layer=3&sentence=a?b')).toBe('layer=3&sentence=a?b')
    expect(['#walk/map', '#walk', '#result=?layer=3', ''].map(controlsAt)).toEqual(['', '', '', ''])
    expect(addressOf('map', 'layer=3')).toBe('#walk/map?layer=3')
    expect(addressOf('map')).toBe('#walk/map')
  })
  test('it has two ends', () => {
    expect([screenFrom('stream', -1), screenFrom('guess', 1), screenFrom('map', 1)?.id]).toEqual([
      null,
      null,
      'two-maps',
    ])
  })
  test('terms of art lead to their screens', () => {
    const unplaced = (Object.keys(TERMS) as TermName[]).filter(term => screenOfTerm(term) === null)
    expect(unplaced).not.toContain('bandwidth')
    expect(screenOfTerm('bandwidth')).toBe('kernel')
    expect(screenOfTerm('massive activation')).toBeNull()
  })
})

test('pooled and refitted layers are nearest to the original, whichever number is removed, and each is in the chart', () => {
  const { fits } = facts
  for (const model of fits.models) {
    expect(model.refitted.kl).toBeLessThan(model.dropped.kl)
    expect(model.refitted.kl).toBeLessThan(model.averaged.kl)
  }
  const chart = fitChart(fits, { width: 700, height: 300 })
  for (const [way] of WAYS) {
    const { dots } = chart.lines[way]
    expect(dots.length).toBe(fits.models.length)
    for (const [i, { x, y }] of dots.entries()) {
      expect(x).toBe(chart.x(i + 1))
      expect(y).toBeGreaterThanOrEqual(0)
      expect(y).toBeLessThanOrEqual(300)
    }
    // More layers, more lost: up on the page.
    expect(dots.every(({ y }, i) => i === 0 || y <= dots[i - 1]!.y)).toBe(true)
  }
  expect(chart.yTicks.map(tick => tick.label)).toEqual(['0.0001', '0.001', '0.01', '0.1', '1'])
})

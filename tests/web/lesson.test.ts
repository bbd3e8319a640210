import { readFileSync } from 'node:fs'
import { beforeAll, describe, expect, test } from 'vitest'
import facts from '../../www/walk/demo-facts.json'
import { answersOf, QUESTIONS } from '../../www/walk/answers'
import { squaredDistances } from '../../www/walk/distances'
import { eigen } from '../../www/walk/eigen'
import { Geometry, MEDIAN } from '../../www/walk/geometry'
import { Lesson } from '../../www/walk/lesson.svelte'
import { controlsOf, ownTexts, setControls } from '../../www/walk/link'
import { located, PLACED_BY, scaledDistance, solved, strayOf, WIDE } from '../../www/walk/locate'
import { pattern } from '../../www/walk/map'
import { OPENING, openingOf, TEXT_TOKENS, textWith } from '../../www/walk/opening'
import { gaussian, randomFrom, spread, symmetricConjugate, variation } from '../../www/walk/operator'
import { unpackedPoints } from '../../www/walk/packed'
import { MOST_CHARACTERS } from '../../www/walk/sentence.svelte'
import { dot, rowOf, square, times } from '../../www/walk/square'
import { storedFacts } from '../../www/walk/stored'
import { stored } from './stored'

const worst = (a: readonly number[], b: readonly number[]) => Math.max(...a.map((value, i) => Math.abs(value - b[i]!)))

let starts: Float64Array[]
let points: Float64Array[][]

beforeAll(async () => {
  const packed = new Response(readFileSync('www/walk/demo-points.bin')).body!
  ;[starts = [], ...points] = await unpackedPoints(packed, facts.points)
})

describe("a sentence of one's own", () => {
  test('each word and mark of the opening is one token, so that its end has any number of them', () => {
    const { vocab } = JSON.parse(readFileSync('src/demo/tokenizer.json', 'utf8')).model as {
      vocab: Record<string, number>
    }
    const pieces = OPENING.split(/(?=[.,])|(?= )/).map((piece, i) => (i ? piece : ` ${piece}`).replace(' ', '\u2581'))
    expect(pieces.filter(piece => vocab[piece] === undefined)).toEqual([])
    expect(pieces.length).toBeGreaterThanOrEqual(TEXT_TOKENS - 1)
    expect(openingOf(3)).toBe('big friend.')
    expect(openingOf(0)).toBe('')
    expect(textWith('A cat.', TEXT_TOKENS, 'The fish')).toBe('A cat. The fish')
    expect(textWith('A cat.', TEXT_TOKENS - 3, 'The fish')).toBe('big friend. A cat. The fish')
  })
  test('a wide map holds every distance, and the point of a text is found by its distances to the others', () => {
    for (const layer of [0, 5, 11]) {
      const all = points[layer]!
      const d2 = squaredDistances(all)
      const pairs = eigen(symmetricConjugate(gaussian(d2, WIDE)))
      const width = all[0]!.length
      const columns = Array.from({ length: width }, (_, k) => {
        const shrunk = Math.sqrt(Math.max(0, pairs.values[k + 1]!))
        return pattern(pairs, k + 1).map(value => shrunk * value)
      })
      const map = all.map((_, text) => columns.map(column => column[text]!))
      expect(strayOf(map, all)).toBeLessThan(1e-3)
      const others = all.slice(1, 1 + PLACED_BY)
      const found = located(
        others,
        map.slice(1, 1 + PLACED_BY).map(other => scaledDistance(map[0]!, other)),
      )
      expect(worst(Array.from(found), Array.from(all[0]!))).toBeLessThan(2e-3 * Math.sqrt(dot(all[0]!, all[0]!)))
      // Another text's map is found out.
      expect(strayOf(map.toReversed(), all)).toBeGreaterThan(0.1)
    }
  })
  test('linear equations are solved', () => {
    const random = randomFrom(3)
    const b = square(7, () => random() - 0.5)
    const a = square(7, (i, j) => dot(rowOf(b, i), rowOf(b, j)) + (i === j ? 0.1 : 0))
    const x = Float64Array.from({ length: 7 }, random)
    expect(worst(Array.from(solved(a, Array.from(times(a, x)))), Array.from(x))).toBeLessThan(1e-9)
  })
})

describe('a link to a state of the walk', () => {
  const lesson = () => new Lesson({ ...storedFacts, points, starts })

  test('says what is not as the walk begins, and nothing else', () => {
    const here = lesson()
    expect(controlsOf(here)).toBe('')
    Object.assign(here, { layer: 9, time: 0, divided: false, alpha: 0.25, measure: 'kl', guess: [5, 2] })
    here.kinds = { model: 1, pair: [2, 0] }
    const link = controlsOf(here)
    expect(link).toBe('layer=9&time=0&divided=0&alpha=0.25&measure=kl&guess=5.2&kinds=1.2.0')
    const there = lesson()
    setControls(there, link)
    expect(controlsOf(there)).toBe(link)
    expect([there.layer, there.divided, there.guess, there.kinds]).toEqual([
      9,
      false,
      [5, 2],
      { model: 1, pair: [2, 0] },
    ])
  })
  test.each([
    ['layer=999&other=-3&one=128&two=99999999999999999999', { layer: 11, other: 0, one: 127, two: 127 }],
    ['merge=0&removed=99&fitted=0&neighbours=0', { merge: 1, removed: 9, fitted: 1, neighbours: 1 }],
    ['layer=&other=1e3&time=0x3&bandwidth=NaN&one=Infinity&two=own', {}],
    ['layer=3.4&alpha=-1&turned=7', { layer: 3, alpha: 0, turned: true }],
    ['guess=1.1.12.-2.a..3&kinds=0.0', { guess: [1, 3], kinds: null }],
    ['kinds=9.0.1', { kinds: null }],
    ['measure=toString&constructor=1&sentence', {}],
    ['%E0%A4%A&&&==', {}],
  ])('of "%s" is taken what can be', (link, expected) => {
    const [there, begun] = [lesson(), lesson()]
    setControls(there, link)
    expect(there).toMatchObject(expected)
    const changed = Object.keys(Object.fromEntries(new URLSearchParams(controlsOf(there))))
    expect(changed.filter(name => !(name in expected))).toEqual([])
    expect(there.sentence.draft).toBe(begun.sentence.draft)
  })
  test('brings a sentence, no longer than the box holds, and which text it is', () => {
    const there = lesson()
    const link = `one=own&sentence=${encodeURIComponent(`Ö & =? ${'a'.repeat(900)}`)}`
    setControls(there, link)
    expect(there.sentence.draft).toHaveLength(MOST_CHARACTERS)
    expect(there.sentence.draft.startsWith('Ö & =? a')).toBe(true)
    expect([ownTexts(link), there.one]).toEqual([['one'], 7])
    there.sentence.own = { text: 'A & b', tokens: 3, points: points.map(layer => layer[0]!) }
    there.one = there.own!
    expect([there.demo.texts.length, there.text(128), there.here.points.length]).toEqual([129, 'A & b', 129])
    expect(controlsOf(there)).toBe('one=own&sentence=A+%26+b')
    there.clearOwn()
    expect([there.one, there.demo.texts.length, there.sentence.draft]).toEqual([7, 128, ''])
  })
})

describe('the answers', () => {
  test('there is one for each question, by the numbers that the steps show', () => {
    const answers = answersOf({ ...storedFacts, points, starts })
    expect(answers.map(({ screen }) => screen)).toEqual(Object.keys(QUESTIONS))
    const of = (screen: keyof typeof QUESTIONS) => {
      const { answer, why } = answers.find(each => each.screen === screen)!
      return `${answer} ${why}`
    }
    for (const screen of ['stream', 'tokens', 'guess'] as const)
      expect(of(screen)).toContain('2, 3, 5, 6, 8, 9 and 11.')
    expect(of('guess')).toContain('[0] [1 2 3] [4 5 6] [7 8 9] [10 11]')
    expect(of('merge')).toContain('Layers 2 and 3.')
    expect(of('cost')).toMatch(/^7\. .*6\.75.*7\.03.*46\.8/)
    const { refitted, dropped, averaged } = facts.fits.models[6]!
    expect(refitted.kl).toBeLessThan(Math.min(dropped.kl, averaged.kl))
    const graph = new Geometry(points).graph(4, MEDIAN)
    let chances: ArrayLike<number> = Float64Array.from({ length: 128 }, (_, i) => Number(i === 7))
    const said = Number(/^\d+/.exec(of('walk'))![0])
    for (let step = 1; step <= said; step++) {
      chances = spread(graph.p, chances)
      expect(variation(chances, graph.longRun) <= 0.01).toBe(step === said)
    }
    expect(stored.similarity[5]![4]).toBeGreaterThan(stored.similarity[7]![4]!)
    for (const { answer, why } of answers) expect(`${answer} ${why}`).not.toMatch(/NaN|undefined|null/)
  })
})

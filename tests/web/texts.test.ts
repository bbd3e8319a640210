import { readFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { CALIBRATION, EVALUATION } from '../../www/app/defaults'
import { State } from '../../www/app/state.svelte'
import { beginWith, calibrationOf, evaluationOf, limitSequences } from '../../www/text/texts'
import { LIMIT_SECONDS, PROSE_NAMES, USUAL_DEMO, usualOf } from '../../www/text/usual'
import { stored } from './stored'

const MODEL = stored.model
const rust = readFileSync('src/prose/mod.rs', 'utf8')
const constant = (name: string) => new RegExp(`const ${name}: [^=]*= "?([^";]+)"?;`).exec(rust)?.[1]

describe('texts where none is given', () => {
  let state: State
  beforeEach(() => {
    state = new State()
    vi.stubGlobal(
      'fetch',
      vi.fn((url: string) =>
        Promise.resolve(
          new Response(
            readFileSync(`src/prose/${url.includes('calibration') ? 'calibration' : 'evaluation'}.txt`, 'utf8'),
          ),
        ),
      ),
    )
  })
  afterEach(() => vi.unstubAllGlobals())

  test('names and numbers are those of the command line', () => {
    expect(PROSE_NAMES).toEqual({ calibration: constant('CALIBRATION_NAME'), evaluation: constant('EVALUATION_NAME') })
    const { calibration, evaluation } = usualOf({ context: 8192 })
    expect(calibration).toMatchObject({
      samples: Number(constant('CALIBRATION_SEQUENCES')),
      tokens: Number(constant('TOKENS')),
      draw: 'spread',
      points: `tokens:${constant('POINTS')}`,
    })
    expect(evaluation).toMatchObject({
      samples: Number(constant('EVALUATION_SEQUENCES')),
      tokens: Number(constant('TOKENS')),
      draw: 'spread',
    })
    const minutes = /const MINUTES: f64 = ([\d.]+);/.exec(readFileSync('src/bin/laminate/usual.rs', 'utf8'))?.[1]
    expect(LIMIT_SECONDS).toBe(60 * Number(minutes))
  })

  test.each([
    [8192, 256, 8],
    [64, 64, 8],
    [6, 6, 5],
    [2, 2, 1],
  ])('a context of %i has sequences of %i tokens and %i points', (context, tokens, points) => {
    const { calibration, evaluation } = usualOf({ context })
    expect([calibration.tokens, calibration.points, evaluation.tokens]).toEqual([tokens, `tokens:${points}`, tokens])
  })

  test('the demo keeps the stories of the engine, and nothing is fetched', async () => {
    expect(await calibrationOf(state)).toEqual(CALIBRATION)
    expect(await evaluationOf(state)).toEqual(EVALUATION)
    expect(fetch).not.toHaveBeenCalled()
  })

  test('another model gets prose, fetched once, and the settings keep no text', async () => {
    beginWith(state, usualOf({ context: 512 }))
    const [calibration, judge] = [await calibrationOf(state), await evaluationOf(state)]
    expect(calibration).toMatchObject({ text_name: PROSE_NAMES.calibration, tokens: 256 })
    expect(judge).toMatchObject({ text_name: PROSE_NAMES.evaluation, samples: 32 })
    expect(calibration.text?.length).toBeGreaterThan(150_000)
    expect(judge.text).not.toBe(calibration.text)
    expect(state.calibration.text).toBeNull()
    expect(fetch).toHaveBeenCalledTimes(2)
  })

  test("a text of one's own stays", async () => {
    beginWith(state, usualOf({ context: 512 }))
    Object.assign(state.calibration, { text: 'mine', text_name: 'mine.txt' })
    expect(await calibrationOf(state)).toMatchObject({ text: 'mine', text_name: 'mine.txt' })
    expect(fetch).not.toHaveBeenCalled()
  })

  test('a text that cannot be loaded is said, and asked for again', async () => {
    vi.mocked(fetch).mockRejectedValueOnce(new TypeError('no network'))
    beginWith(state, usualOf({ context: 512 }))
    await expect(calibrationOf(state)).rejects.toMatchObject({
      message: expect.stringContaining('Connect to the network') as string,
    })
    expect((await calibrationOf(state)).text).not.toBeNull()
  })

  test('what the user chose is not replaced by what is usual', () => {
    state.calibration.samples = 40
    state.choice.evaluation.tokens = 99
    beginWith(state, usualOf({ context: 512 }))
    expect(state.calibration).toEqual({ ...CALIBRATION, samples: 40 })
    expect(state.choice.evaluation).toEqual({ ...EVALUATION, tokens: 99 })
    beginWith(state, USUAL_DEMO)
    expect(state.calibration.samples).toBe(40)
  })

  test('from the demo to a model and back, settings are those of each', () => {
    beginWith(state, usualOf({ context: 512 }))
    expect([state.calibration.samples, state.choice.evaluation.tokens, state.builtin?.calibration.name]).toEqual([
      96,
      256,
      PROSE_NAMES.calibration,
    ])
    beginWith(state, USUAL_DEMO)
    expect([state.calibration, state.choice.evaluation]).toEqual([CALIBRATION, EVALUATION])
  })

  test('the time decides once how many sequences are used, for a quarter of the layers', async () => {
    const within = vi.fn(() => Promise.resolve(40))
    state.model = { ...MODEL, layers: 30 }
    await limitSequences(state, within)
    expect(within).not.toHaveBeenCalled()
    beginWith(state, usualOf({ context: 512 }))
    await limitSequences(state, within)
    expect(within).toHaveBeenCalledWith(
      LIMIT_SECONDS,
      expect.objectContaining({ samples: 96 }),
      expect.objectContaining({ remove: 8 }),
      expect.objectContaining({ dtype: 'keep' }),
      expect.objectContaining({ samples: 32 }),
    )
    expect([state.calibration.samples, state.usual.calibration.samples]).toEqual([40, 40])
    await limitSequences(state, within)
    expect(within).toHaveBeenCalledTimes(1)
  })

  test('however much the time allows, no more than usual; and never over a choice', async () => {
    state.model = MODEL
    beginWith(state, usualOf({ context: 512 }))
    await limitSequences(state, () => Promise.resolve(4000))
    expect(state.calibration.samples).toBe(96)
    beginWith(state, usualOf({ context: 512 }))
    state.calibration.samples = 77
    await limitSequences(state, () => Promise.resolve(24))
    expect(state.calibration.samples).toBe(77)
  })
})

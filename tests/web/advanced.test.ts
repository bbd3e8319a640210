import { expect, test } from 'vitest'
import { State } from '../../www/app/state.svelte'
import { unusual } from '../../www/app/unusual'
import { makingOf } from '../../www/words/methods'
import { METHODS } from './mock/methods'

/** A page as the engine leaves it: with the recommended method. */
function begun(): State {
  const state = new State()
  state.methods = METHODS
  Object.assign(state.planOptions, makingOf(METHODS.find(({ name }) => name === 'laminate')!))
  return state
}

test('nothing is unusual at the start, whatever method with a name is chosen', () => {
  for (const method of METHODS) {
    const state = begun()
    Object.assign(state.planOptions, makingOf(method))
    expect(unusual(state), method.name).toEqual([])
  }
})

test('each setting that is hidden is named once it differs, and only while it has an effect', () => {
  const state = begun()
  state.calibration.tokens = 96
  state.calibration.metric = 'cka'
  state.choice.evaluation.samples = 64
  state.planOptions.keep_last = true
  state.writeOptions.importances = false
  state.palette = 'cividis'
  expect(unusual(state)).toEqual([
    'Tokens in each',
    'Similarity by',
    'Pieces of text',
    'Use importances',
    'Never merge the last layer',
    'Colours',
  ])
  // Weights of averages say nothing of a method that fits.
  state.planOptions.alpha = 0.25
  expect(unusual(state)).not.toContain('Weights')
  state.planOptions.operator = 'average'
  expect(unusual(state)).toContain('Weights')
})

test('what is basic is not counted: text, method, number of layers, size and type', () => {
  const state = begun()
  Object.assign(state.calibration, { text: 'mine', text_name: 'mine.txt' })
  Object.assign(state.planOptions, { remove: 5 })
  state.choice.size = 1e6
  Object.assign(state.writeOptions, { dtype: 'q8_0', container: 'gguf' })
  expect(unusual(state)).toEqual([])
})

test('a method that was changed names what was changed; a pair without a name both of its parts', () => {
  const state = begun()
  state.planOptions.longest_run = 9
  expect(unusual(state)).toEqual(['Longest run'])
  Object.assign(state.planOptions, { selection: 'random', operator: 'scale', seed: 3 })
  expect(unusual(state)).toEqual(['Which layers', 'What becomes of them', 'Seed'])
})

test('a plan by hand hides nothing, and a stored result says its settings in words', () => {
  const state = begun()
  state.planOptions.keep_first = true
  state.calibration.samples = 20
  state.readOnly = true
  expect(unusual(state)).toEqual(['Never merge the first layer'])
  state.hand = { ...state.hand, present: { ...state.hand.present, active: true } }
  expect(unusual(state)).toEqual([])
})

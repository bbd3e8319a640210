import { describe, expect, test } from 'vitest'
import { begun, withPlan, redone, travelKey, undone } from '../../www/plan/history'
import {
  absorbedBy,
  cannotMerge,
  groupsOf,
  isMerged,
  lockedTo,
  lockToggled,
  optionsWith,
  parseLayers,
  toggled,
  UNTOUCHED,
} from '../../www/plan/hand'
import { mergekitYaml, whyNoMergekit } from '../../www/plan/mergekit'
import { neighbours } from '../../www/charts/neighbours'
import { readPlan } from '../../www/plan/recipe'
import { PROGRAM, recipeOf } from '../../www/share/result'
import { PLAN } from '../../www/app/defaults'
import { goldenPlan, planOptions, stored } from './stored'

const hand = { ...UNTOUCHED, active: true }
const file = (value: unknown, name = 'recipe.json') =>
  new File([typeof value === 'string' ? value : JSON.stringify(value)], name)

describe('merging by hand', () => {
  test('a pair, then a block around it, then apart', () => {
    const one = toggled(hand, [4, 3])
    expect(groupsOf(one, 6)).toEqual([[0], [1], [2], [3, 4], [5]])
    const more = toggled(one, [2, 5])
    expect(more.absorb).toEqual([4, 3, 5])
    expect(groupsOf(more, 6)).toEqual([[0], [1], [2, 3, 4, 5]])
    expect(isMerged(more, [2, 5])).toBe(true)
    expect(groupsOf(toggled(more, [3, 4]), 6)).toEqual([[0], [1], [2, 3], [4, 5]])
    expect(toggled(more, [2, 5]).absorb).toEqual([])
  })
  test('a locked layer takes part in none, and says so', () => {
    const locked = lockToggled(toggled(hand, [1, 4]), 2)
    expect([locked.absorb, locked.locked]).toEqual([[4], [2]])
    expect(cannotMerge(locked, [1, 2])).toBe('Layer 2 is locked; unlock it first.')
    expect(cannotMerge(locked, [1, 1])).toMatch(/with itself/)
    expect(toggled(locked, [1, 3])).toBe(locked)
    expect(lockToggled(locked, 2).locked).toEqual([])
  })
  test('layers as they are typed', () => {
    expect(parseLayers(' 11, 3;3 ', 12)).toEqual([3, 11])
    expect(parseLayers('', 12)).toEqual([])
    expect([parseLayers('12', 12), parseLayers('x', 12), parseLayers('-1', 12)]).toEqual([null, null, null])
    expect(lockedTo({ ...hand, locked: [1, 5] }, [5, 7]).locked).toEqual([5, 7])
  })
  test('what the engine is asked for', () => {
    expect(optionsWith(PLAN, UNTOUCHED)).toEqual(PLAN)
    expect(
      optionsWith({ ...PLAN, min_similarity: 0.9, remove: null }, { ...hand, absorb: [4, 3], locked: [1] }),
    ).toMatchObject({ selection: 'hand', absorb: [4, 3], remove: 2, min_similarity: null, locked: [1] })
  })
  test('the rule foretells no merge of a locked layer', () => {
    const chosen = (choice: object) =>
      neighbours(stored.similarity, { remove: 7, min_similarity: null, ...choice }, 'viridis', [0, 1], [5])
        .filter(pair => pair.chosen)
        .map(pair => pair.layer)
    expect(chosen({ locked: [2] })).not.toContain(1)
    expect(chosen({ locked: [2] })).not.toContain(2)
    expect(chosen({})).not.toContain(4)
    expect(chosen({ release_massive: true })).toContain(4)
  })
})

describe('undo and redo', () => {
  test('back and forth, and a new change ends what was taken back', () => {
    const two = withPlan(withPlan(begun(0), 1), 2)
    expect(undone(undone(undone(two))).present).toBe(0)
    expect(redone(undone(two))).toEqual(two)
    expect(redone(withPlan(undone(two), 9)).present).toBe(9)
    expect(redone(two)).toBe(two)
  })
  test('keys', () => {
    const key = (key: string, mods: object = { ctrlKey: true }) =>
      travelKey({ key, ctrlKey: false, metaKey: false, shiftKey: false, altKey: false, ...mods })
    expect([
      key('z'),
      key('Z', { ctrlKey: true, shiftKey: true }),
      key('y'),
      key('z', { metaKey: true }),
      key('z', {}),
      key('z', { ctrlKey: true, altKey: true }),
    ]).toEqual(['undo', 'redo', 'redo', 'undo', null, null])
  })
})

describe('recipes', () => {
  test('out and in again is the same plan', async () => {
    const report = await goldenPlan(7)
    const recipe = recipeOf({ model: stored.model, maps: stored, plan: report, options: planOptions })!
    expect(recipe.laminate).toBe(PROGRAM)
    expect(recipe.calibration).not.toHaveProperty('text')
    const { plan, model } = await readPlan(file(recipe), 12)
    expect(plan).toEqual(report.plan)
    expect(model).toBe(stored.model.name)
    expect(groupsOf({ absorb: absorbedBy(plan), exact: null }, 12)).toEqual(report.plan.groups)
    expect(
      (await readPlan(file({ n_layers: 3, groups: [[0, 1], [2]], weights: [[0.5, 0.5], [1]] }), 3)).plan.operator,
    ).toBe('average')
  })
  test('the experts that stay come along, also where no layers merge', async () => {
    const plan = {
      n_layers: 2,
      operator: 'drop',
      steps: [],
      groups: [[0], [1]],
      weights: [[1], [1]],
      kept_experts: [[0, 2], []],
    }
    expect((await readPlan(file({ plan }), 2)).plan).toEqual(plan)
    expect(whyNoMergekit({ operator: 'drop', kept_experts: plan.kept_experts }, { container: 'safetensors' })).toMatch(
      /experts/,
    )
  })
  test.each([
    ['not JSON', '{', /recipe.json: this is not JSON/],
    ['no plan', '{"model":"x"}', /there is no plan in it/],
    ['null', 'null', /there is no plan in it/],
    ['another model', { n_layers: 4, groups: [[0]], weights: [[1]] }, /for a model of 4 layers, and this one has 3/],
    ['layers out of order', { n_layers: 3, groups: [[1, 0], [2]], weights: [[1, 0], [1]] }, /each once and in order/],
    [
      'weights of another shape',
      { n_layers: 3, groups: [[0, 1], [2]], weights: [[1], [1]] },
      /weights\[0\] has 1 entries for 2 layers/,
    ],
    [
      'a weight that is none',
      { n_layers: 3, groups: [[0, 1], [2]], weights: [[1, 'x'], [1]] },
      /weights\[0\]\[1\] is not a finite number/,
    ],
    [
      'steps that are none',
      { n_layers: 3, groups: [[0, 1], [2]], weights: [[1, 0], [1]], steps: [{}] },
      /steps\[0\].merged must be a list/,
    ],
    [
      'experts of fewer layers',
      { n_layers: 3, groups: [[0], [1], [2]], weights: [[1], [1], [1]], kept_experts: [[0, 1]] },
      /kept_experts has 1 entries for 3 layers/,
    ],
    ['nothing merged', { n_layers: 3, groups: [[0], [1], [2]], weights: [[1], [1], [1]] }, /merges nothing/],
  ])('%s: one sentence', async (_, content, sentence) => {
    await expect(readPlan(file(content), 3)).rejects.toMatchObject({
      kind: 'format',
      message: expect.stringMatching(sentence),
    })
  })
})

describe('mergekit', () => {
  test('one slice a final layer, one name of the folder for each layer in it', () => {
    const yaml = mergekitYaml(
      { groups: [[0], [1, 2, 3]], weights: [[1], [0.25, 0.25, 0.5]] },
      { name: 'My model', dtype: 'BF16' },
    )
    expect(yaml.split('\n').slice(2)).toEqual([
      'merge_method: linear',
      'parameters: {normalize: false}',
      'dtype: bfloat16',
      'slices:',
      '  - sources:',
      '      - model: ./My-model',
      '        layer_range: [0, 1]',
      '        parameters: {weight: 1}',
      '  - sources:',
      '      - model: ./My-model',
      '        layer_range: [1, 2]',
      '        parameters: {weight: 0.25}',
      '      - model: ././My-model',
      '        layer_range: [2, 3]',
      '        parameters: {weight: 0.25}',
      '      - model: ./././My-model',
      '        layer_range: [3, 4]',
      '        parameters: {weight: 0.5}',
      '',
    ])
  })
  test('a dropped layer is not read, and new weights are beyond it', () => {
    expect(mergekitYaml({ groups: [[0, 1]], weights: [[1, 0]] }, { name: 'm', dtype: 'F32' })).not.toContain('[1, 2]')
    expect(whyNoMergekit({ operator: 'refit' }, { container: 'safetensors' })).toMatch(/weighted sums/)
    expect(whyNoMergekit({ operator: 'average' }, { container: 'gguf' })).toMatch(/GGUF/)
    expect(whyNoMergekit({ operator: 'drop' }, { container: 'safetensors' })).toBe('')
  })
})

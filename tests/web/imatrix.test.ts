import { beforeEach, describe, expect, test, vi } from 'vitest'
import type { Actions } from '../../www/app/actions'
import { compareMethods } from '../../www/methods/compare'
import { collectedOn, downloadImatrix, isImatrix, openImatrix, removeImatrix } from '../../www/take/imatrix'
import { whyNotBy } from '../../www/plan/recipe'
import { openAnything } from '../../www/app/incoming'
import { saveBlob } from '../../www/ui/save'
import { recipeOf, resultOf } from '../../www/share/result'
import type { State } from '../../www/app/state.svelte'
import { chooseType, typeOf } from '../../www/words/types'
import { acting } from './acting'
import { imatrixBytes } from './mock/imatrix'

vi.mock('../../www/ui/save', async original => ({ ...(await original<object>()), saveBlob: vi.fn() }))

const file = (name: string, part: BlobPart) => ({ name, file: new File([part], name) })
const own = (salt = 0) => file('own.gguf', imatrixBytes('stories.txt', salt))

test('a file of importances is known by what is in it, one in the older format by its name', async () => {
  expect(await isImatrix(own())).toBe(true)
  expect(await isImatrix(file('renamed', imatrixBytes('x.txt')))).toBe(true)
  expect(await isImatrix(file('imatrix.gguf', 'GGUF and a model'))).toBe(false)
  expect(await isImatrix(file('model.imatrix', 'old'))).toBe(true)
  expect(await isImatrix(file('imatrix.dat', 'old'))).toBe(true)
  expect(await isImatrix(file('recipe.json', '{"imatrix":1}'))).toBe(false)
})

test('what it was collected on', () => {
  const used = (tokens: number, ...datasets: string[]) => collectedOn({ name: 'x', hash: '', tokens, datasets })
  expect(used(6144, '/home/me/wiki.train.raw')).toBe('collected on 6,144 tokens of wiki.train.raw')
  expect(used(1, 'a.txt', 'C:\\texts\\b.txt')).toBe('collected on 1 token of a.txt and b.txt')
  expect(used(9, 'a', 'b', 'c')).toBe('collected on 9 tokens of 3 texts')
  expect(used(9)).toBe('collected on 9 tokens of a text that it does not name')
})

test('a recipe is repeated by the importances that it was made with', () => {
  const [mine, theirs] = [
    { name: 'mine.gguf', hash: '1' },
    { name: 'theirs.gguf', hash: '2' },
  ]
  const recipe = { plan: {} as never, output: { dtype: 'q4_k_m', max_shard_bytes: 1, container: 'gguf' } as const }
  expect(whyNotBy(recipe, null)).toBe('')
  expect(whyNotBy({ ...recipe, imatrix: mine }, { ...mine, name: 'renamed.gguf' })).toBe('')
  expect(whyNotBy({ ...recipe, imatrix: mine }, null)).toMatch(
    /made with the importance matrix mine\.gguf, which a recipe does not hold; open that file first\.$/,
  )
  expect(whyNotBy({ ...recipe, imatrix: mine }, theirs)).toMatch(
    /^theirs\.gguf is not the importance matrix mine\.gguf/,
  )
  expect(whyNotBy(recipe, mine)).toMatch(/made without the importance matrix mine\.gguf/)
  expect(whyNotBy({ ...recipe, output: { ...recipe.output, importances: false } }, mine)).toBe('')
  expect(whyNotBy({ n_layers: 12 } as never, mine)).toBe('')
})

describe('the page', () => {
  let state: State
  let actions: Actions
  let workers: ReturnType<typeof acting>['workers']

  beforeEach(() => {
    ;({ state, actions, workers } = acting())
  })

  test('uses a file, and knows which results it makes out of date', async () => {
    await actions.runDemo()
    Object.assign(state.writeOptions, { dtype: 'q4_k_m', container: 'gguf' })
    await actions.compress()
    expect([state.planFresh, state.plan!.report.imatrix]).toEqual(['fresh', undefined])
    expect(await openImatrix(actions, own())).toBe(true)
    expect(state.imatrix).toMatchObject({ name: 'own.gguf', tokens: 6144, datasets: ['stories.txt'] })
    expect(state.planFresh).toBe('stale')
    await actions.compress()
    expect([state.planFresh, state.plan!.report.imatrix?.name]).toEqual(['fresh', 'own.gguf'])
    expect(recipeOf(resultOf(state)!)?.imatrix).toEqual({ name: 'own.gguf', hash: state.imatrix!.hash })
    state.choice.methods = ['mka']
    await compareMethods(actions)
    expect([state.comparisonFresh, state.comparison!.report.imatrix?.name]).toEqual(['fresh', 'own.gguf'])
    // Another file of the same name is another file.
    expect(await openImatrix(actions, own(1))).toBe(true)
    expect([state.planFresh, state.comparisonFresh]).toEqual(['stale', 'stale'])
    expect(await openImatrix(actions, own())).toBe(true)
    expect([state.planFresh, state.comparisonFresh]).toEqual(['fresh', 'fresh'])
    state.writeOptions.importances = false
    expect([state.planFresh, state.comparisonFresh]).toEqual(['stale', 'stale'])
    await actions.compress()
    expect([state.planFresh, state.plan!.report.imatrix]).toEqual(['fresh', undefined])
    state.writeOptions.importances = true
    await removeImatrix(actions)
    expect([state.imatrix, state.planFresh]).toEqual([null, 'stale'])
    await actions.compress()
    expect(state.plan!.report.imatrix).toBeUndefined()
  })

  test('says what the engine says of a file that it cannot use, and changes nothing', async () => {
    await actions.runDemo()
    await openImatrix(actions, own())
    for (const [bad, why] of [
      [file('other.gguf', imatrixBytes('other.txt')), /blk\.12\.attn_q\.weight is of a layer that the model has not/],
      [file('imatrix.dat', 'old'), /^imatrix\.dat: not an importance matrix in a GGUF file/],
      [file('model.gguf', 'GGUF'), /a GGUF file of type model/],
    ] as const) {
      expect(await openImatrix(actions, bad)).toBe(false)
      expect(state.notice?.error.message).toMatch(why)
      expect(state.imatrix?.name).toBe('own.gguf')
    }
    expect(await openImatrix(actions, own())).toBe(true)
    expect(state.notice).toBeNull()
  })

  test('takes one that was dropped, once its model is open', async () => {
    const dropped = { folder: undefined, files: [own()] }
    await openAnything(actions, dropped)
    expect(state.notice?.error.message).toMatch(/own\.gguf holds importances of a model\. Open that model first/)
    expect(state.model).toBeNull()
    await actions.openDemo()
    await openAnything(actions, dropped)
    expect([state.imatrix?.name, state.model?.name]).toEqual(['own.gguf', (state.model as { name: string }).name])
    // They were of the model that was open.
    await actions.openDemo()
    expect(state.imatrix).toBeNull()
  })

  test('gives it to the worker that comes after one that ended', async () => {
    await actions.runDemo()
    await openImatrix(actions, own())
    actions.prefer('cpu')
    await actions.compress()
    expect(workers).toHaveLength(2)
    expect(state.plan!.report.imatrix?.name).toBe('own.gguf')
    actions.prefer('auto')
    await removeImatrix(actions)
    await actions.compress()
    expect([workers.length, state.plan!.report.imatrix]).toEqual([3, undefined])
  })

  test('keeps the result where the type that is chosen next is refused', async () => {
    await actions.runDemo()
    await actions.compress()
    state.writeOptions.pack = 'int4-g128'
    expect(await actions.compress()).toBe(false)
    expect(state.notice?.error.message).toContain('cannot be stored as int4-g128')
    expect([state.plan === null, typeOf(state.writeOptions)]).toEqual([false, 'keep'])
    state.writeOptions.pack = 'int4'
    expect(await actions.compress()).toBe(true)
    expect(state.plan!.report.output.pack).toBe('int4')
    // Another model begins with types of its own.
    await actions.openDemo()
    expect(typeOf(state.writeOptions)).toBe('keep')
    chooseType(state.writeOptions, 'q4_k_m')
    await actions.openDemo()
    expect(typeOf(state.writeOptions)).toBe('keep')
  })

  test('knows what collecting takes, for each type', async () => {
    await actions.runDemo()
    await actions.estimates.plan()
    const floats = state.planEstimate!.seconds
    Object.assign(state.writeOptions, { dtype: 'q4_k_m', container: 'gguf' })
    await actions.estimates.plan()
    const collected = state.planEstimate!.seconds
    expect(collected).toBeGreaterThan(floats)
    await openImatrix(actions, own())
    await actions.estimates.plan()
    expect(state.planEstimate!.seconds).toBe(floats)
  })

  test('hands out the importances of the result', async () => {
    await actions.runDemo()
    expect(await downloadImatrix(actions)).toBe(false)
    expect(state.notice?.error.message).toBe('Compress first; there is no result yet.')
    await actions.compress()
    expect(await downloadImatrix(actions)).toBe(true)
    const [[name, blob]] = vi.mocked(saveBlob).mock.calls as [[string, Blob]]
    expect(name).toMatch(/-laminated-\d+L\.imatrix\.gguf$/)
    expect(await isImatrix({ name, file: new File([blob], name) })).toBe(true)
  })
})

import { expect, test, vi } from 'vitest'
import { DOWNWARDS, placeAfter, WITH_PAGES } from '../../www/ui/arrows'

const pressed = (key: string) => ({ key, preventDefault: vi.fn() }) as unknown as KeyboardEvent
const after = (key: string, place: number, count = 5, steps?: Record<string, number>) =>
  placeAfter(pressed(key), place, count, steps)

test('keys lead to neighbours and ends, and never out of the row', () => {
  expect([after('ArrowRight', 1), after('ArrowUp', 1), after('ArrowLeft', 1), after('ArrowDown', 1)]).toEqual([
    2, 2, 0, 0,
  ])
  expect([after('ArrowLeft', 0), after('ArrowRight', 4), after('Home', 3), after('End', 3)]).toEqual([0, 4, 0, 4])
  expect([after('ArrowDown', 1, 5, DOWNWARDS), after('ArrowUp', 1, 5, DOWNWARDS)]).toEqual([2, 0])
  expect([after('PageUp', 1, 50, WITH_PAGES), after('PageDown', 1, 50, WITH_PAGES), after('PageUp', 1)]).toEqual([
    11,
    0,
    null,
  ])
})

test('from no place the first step is to an end', () => {
  expect([after('ArrowRight', -1), after('ArrowLeft', -1)]).toEqual([0, 4])
})

test('only keys that lead somewhere are taken', () => {
  const [taken, left, nowhere] = [pressed('Home'), pressed('a'), pressed('ArrowRight')]
  expect([placeAfter(taken, 2, 5), placeAfter(left, 2, 5), placeAfter(nowhere, -1, 0)]).toEqual([0, null, null])
  expect(taken.preventDefault).toHaveBeenCalledOnce()
  expect(left.preventDefault).not.toHaveBeenCalled()
  expect(nowhere.preventDefault).not.toHaveBeenCalled()
})

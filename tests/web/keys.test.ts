import { expect, test } from 'vitest'
import { keyOf } from '../../www/app/keys'

const story = 'Once upon a time there was a little girl named Lily. '.repeat(4)

test('a key holds no long text, and tells texts apart that differ by one letter anywhere', () => {
  const key = keyOf({ text: story, samples: 8 })
  expect(key).not.toContain('Lily')
  expect(key.length).toBeLessThan(100)
  expect(keyOf({ text: story, samples: 8 })).toBe(key)
  const others = Array.from(
    story,
    (letter, i) => `${story.slice(0, i)}${letter === 'x' ? 'y' : 'x'}${story.slice(i + 1)}`,
  )
  const keys = new Set([story, `${story} `, story.slice(1), ...others].map(text => keyOf({ text, samples: 8 })))
  expect(keys.size).toBe(others.length + 3)
})

test('short texts and all else stay as they are', () => {
  expect(keyOf([null, 3, 'mi', { draw: 'first' }])).toBe('[null,3,"mi",{"draw":"first"}]')
})

test('a key of keys is short, too', () => {
  const calibration = keyOf({ text: story.repeat(100), draw: 'spread' })
  expect(keyOf([calibration, { text: story }, 'laminate']).length).toBeLessThan(200)
})

/** The values of the walk's controls in a link: `layer=7&bandwidth=3`, only those that are not as the walk begins. */
import { MEASURES } from './cost'
import { BANDWIDTHS } from './geometry'
import { storedKinds } from './kinds'
import { Lesson } from './lesson.svelte'
import { MOST_CHARACTERS } from './sentence.svelte'
import type { StoredDemo } from './stored'

/** Controls with a number or a yes and no, and between which values they are. */
const RANGES = {
  one: demo => [0, demo.texts.length - 1],
  two: demo => [0, demo.texts.length - 1],
  layer: demo => [0, demo.layers - 1],
  other: demo => [0, demo.layers - 1],
  bandwidth: () => [0, BANDWIDTHS.length - 1],
  time: () => [0, 8],
  neighbours: () => [1, 16],
  pattern: () => [0, 8],
  steps: () => [0, 6],
  merge: demo => [1, demo.merges.length],
  removed: demo => [1, demo.merges.length],
  fitted: demo => [1, demo.fits.models.length],
  divided: () => [0, 1],
  turned: () => [0, 1],
  all: () => [0, 1],
  maps: () => [0, 1],
} as const satisfies Record<string, (demo: StoredDemo) => readonly [least: number, most: number]>

type Control = keyof typeof RANGES
const CONTROLS = Object.keys(RANGES) as Control[]

/** Stands for the reader's own sentence where a text is named. */
const OWN = 'own'

/** What a link to the picture has to say. */
export function controlsOf(lesson: Lesson): string {
  const begun = new Lesson(lesson.stored)
  const said = new URLSearchParams()
  for (const name of CONTROLS) {
    const value = lesson[name]
    if (value !== begun[name]) said.set(name, value === lesson.own ? OWN : String(Number(value)))
  }
  if (lesson.alpha !== null) said.set('alpha', String(lesson.alpha))
  if (lesson.measure !== begun.measure) said.set('measure', lesson.measure)
  if (lesson.guess.length) said.set('guess', lesson.guess.join('.'))
  if (lesson.kinds) said.set('kinds', [lesson.kinds.model, ...lesson.kinds.pair].join('.'))
  if (lesson.sentence.own) said.set('sentence', lesson.sentence.own.text)
  return said.toString()
}

/**
 * Sets the controls as a link says. Numbers out of range are taken to the nearest end; what is no number, or names
 * nothing, is passed over. A sentence is put into its box; the engine has to read the sentence before it is shown.
 */
export function setControls(lesson: Lesson, controls: string): void {
  const said = new URLSearchParams(controls)
  for (const name of CONTROLS) {
    const value = within(said.get(name), RANGES[name](lesson.stored))
    if (value !== null) setControl(lesson, name, Math.round(value))
  }
  lesson.alpha = within(said.get('alpha'), [0, 1]) ?? lesson.alpha
  lesson.measure = MEASURES.find(measure => measure === said.get('measure')) ?? lesson.measure
  if (said.has('guess')) lesson.guess = [...new Set(wholes(said.get('guess')!, lesson.stored.layers))]
  const [model = -1, ...pair] = wholes(said.get('kinds') ?? '', Infinity)
  const [first, second] = pair.filter(layer => layer < (storedKinds[model]?.kinds.length ?? 0))
  if (first !== undefined && second !== undefined) lesson.kinds = { model, pair: [first, second] }
  lesson.sentence.draft = said.get('sentence')?.slice(0, MOST_CHARACTERS) ?? lesson.sentence.draft
}

/** The texts that a link wants to be the reader's own sentence, once the engine has read it. */
export function ownTexts(controls: string): ('one' | 'two')[] {
  const said = new URLSearchParams(controls)
  return (['one', 'two'] as const).filter(name => said.get(name) === OWN)
}

function setControl(lesson: Lesson, name: Control, value: number) {
  if (name === 'divided' || name === 'turned' || name === 'all' || name === 'maps') lesson[name] = value === 1
  else lesson[name] = value
}

function within(said: string | null, [least, most]: readonly [number, number]): number | null {
  return said !== null && /^-?\d+(\.\d+)?$/.test(said) ? Math.max(least, Math.min(most, Number(said))) : null
}

/** Whole numbers below `limit` out of a list with dots between them; others are left out. */
function wholes(said: string, limit: number): number[] {
  return said
    .split('.')
    .filter(part => /^\d{1,6}$/.test(part))
    .map(Number)
    .filter(value => value < limit)
}

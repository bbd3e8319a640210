/**
 * What comes from a file or a link is looked at before it is believed. Each check gives back the value with its
 * type or throws one sentence that names the place, such as "similarity.json: similarity[3][4] is not a finite
 * number". The report types of `engine/protocol` are checked as far as views rely on them.
 */
import { Failure } from '../../engine/errors'

/** Where a value stands: the file, and the path in it. */
export type Place = readonly [file: string, path: string]
export type Check<T> = (value: unknown, at: Place) => T

/** More layers, points or merges than any model has; what is larger is damage or malice. */
export const MOST = { layers: 1024, points: 65_536, items: 4096, letters: 4000 }

export function refuse([file, path]: Place, what: string): never {
  throw new Failure('format', `${file}: ${path || 'it'} ${what}.`)
}

const inside = ([file, path]: Place, key: string | number): Place => [
  file,
  typeof key === 'number' ? `${path}[${key}]` : path ? `${path}.${key}` : key,
]

export function number(least = -Infinity, most = Infinity): Check<number> {
  return (value, at) => {
    if (typeof value !== 'number' || !Number.isFinite(value)) return refuse(at, 'is not a finite number')
    if (value < least || value > most)
      return refuse(
        at,
        most === Infinity
          ? `is ${value} and must be at least ${least}`
          : `is ${value} and must be from ${least} to ${most}`,
      )
    return value
  }
}

export function integer(least: number, most = Number.MAX_SAFE_INTEGER): Check<number> {
  return (value, at) => {
    const found = number(least, most)(value, at)
    return Number.isInteger(found) ? found : refuse(at, `is ${found} and must be a whole number`)
  }
}

/** What JSON writes as null because it is too large for a number. */
export const maybeInfinite: Check<number> = (value, at) =>
  value === null || value === Infinity ? Infinity : number(0)(value, at)

export const flag: Check<boolean> = (value, at) =>
  typeof value === 'boolean' ? value : refuse(at, 'must be true or false')

export const text: Check<string> = (value, at) => {
  if (typeof value !== 'string') return refuse(at, 'must be a text')
  return value.length <= MOST.letters ? value : refuse(at, `is longer than ${MOST.letters} letters`)
}

export function oneOf<T extends string>(...words: readonly T[]): Check<T> {
  return (value, at) => (words.includes(value as T) ? (value as T) : refuse(at, `must be one of ${words.join(', ')}`))
}

export function matching<T extends string>(pattern: RegExp, like: string): Check<T> {
  return (value, at) =>
    typeof value === 'string' && pattern.test(value) ? (value as T) : refuse(at, `must be like ${like}`)
}

export function nullable<T>(check: Check<T>): Check<T | null> {
  return (value, at) => (value === null || value === undefined ? null : check(value, at))
}

export function otherwise<T>(check: Check<T>, fallback: T): Check<T> {
  return (value, at) => (value === undefined ? fallback : check(value, at))
}

/** Either; what neither takes is told as the last would. */
export function either<A, B>(one: Check<A>, other: Check<B>): Check<A | B> {
  return (value, at) => {
    try {
      return one(value, at)
    } catch {
      return other(value, at)
    }
  }
}

export function list<T>(
  item: Check<T>,
  { length, most = MOST.items, least = 0 }: { length?: number; most?: number; least?: number } = {},
): Check<T[]> {
  return (value, at) => {
    if (!Array.isArray(value)) return refuse(at, 'must be a list')
    if (length !== undefined && value.length !== length)
      return refuse(at, `has ${value.length} entries and ${length} are needed`)
    if (value.length > most || value.length < least)
      return refuse(at, `has ${value.length} entries and from ${least} to ${most} are allowed`)
    return value.map((each, i) => item(each, inside(at, i)))
  }
}

export function record<T>(fields: { [K in keyof T]: Check<T[K]> }): Check<T> {
  return (value, at) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return refuse(at, 'must be an object')
    const from = value as Record<string, unknown>
    return Object.fromEntries(
      Object.entries<Check<unknown>>(fields as never).map(([key, check]) => [key, check(from[key], inside(at, key))]),
    ) as T
  }
}

/**
 * Options, to which engines add fields that this page need not know: what is a word, a number, yes or no, nothing, or
 * a list of numbers is kept as it is, so that a recipe that comes in goes out whole.
 */
export function openRecord<T>(fields: { [K in keyof T]: Check<T[K]> }): Check<T> {
  const known = record(fields)
  return (value, at) => {
    const found = known(value, at)
    const others = Object.entries(value as Record<string, unknown>).filter(
      ([key, each]) => !Object.keys(fields as never).includes(key) && key !== '__proto__' && isPlain(each),
    )
    return { ...Object.fromEntries(others), ...found }
  }
}

function isPlain(value: unknown): boolean {
  if (Array.isArray(value)) return value.length <= MOST.items && value.every(each => Number.isFinite(each))
  return (
    value === null ||
    typeof value === 'boolean' ||
    Number.isFinite(value) ||
    (typeof value === 'string' && value.length <= MOST.letters)
  )
}

/** How far two halves of a matrix may differ: the digits that a file of six decimals keeps. */
const ASYMMETRY = 1e-6
/** Rounding may lead a similarity so far out of its range. */
const SLACK = 1e-6

/** A symmetric `n x n` matrix of finite numbers in a range. */
export function matrix(n: number, least: number, most: number): Check<number[][]> {
  const rows = list(list(number(), { length: n }), { length: n })
  return (value, at) => {
    const found = rows(value, at)
    for (const [l, row] of found.entries()) {
      for (const [m, x] of row.entries()) {
        const here = inside(inside(at, l), m)
        if (x < least - SLACK || x > most + SLACK) return refuse(here, `is ${x} and must be from ${least} to ${most}`)
        if (Math.abs(x - found[m]![l]!) > ASYMMETRY)
          return refuse(
            here,
            `is ${x} and ${inside(inside(at, m), l)[1]} is ${found[m]![l]}: the matrix is not symmetric`,
          )
      }
    }
    return found
  }
}

/** Similarities of which it is not known how many layers they are of: a symmetric matrix of numbers from -1 to 1. */
export const similarities: Check<number[][]> = (value, at) => {
  if (!Array.isArray(value) || value.length === 0) return refuse(at, 'is missing or no matrix')
  if (value.length > MOST.layers)
    return refuse(at, `is of ${value.length} layers, and at most ${MOST.layers} are shown`)
  return matrix(value.length, -1, 1)(value, at)
}

/** The JSON of a file of at most so many bytes. */
export async function jsonOf(file: Pick<File, 'name' | 'size' | 'text'>, most: number): Promise<unknown> {
  if (file.size > most)
    throw new Failure('limit', `${file.name}: this is too large; at most ${most / 1e6} MB are read.`)
  try {
    return JSON.parse(await file.text())
  } catch {
    throw new Failure('format', `${file.name}: this is not JSON.`)
  }
}

/** Colours of the points of maps, the same in every layer. */
import type { LayerMap } from '../engine/protocol/engine'
import type { PointReport } from '../engine/protocol/similarity'
import { colourOf, type Palette } from './colour'
import { ranks } from './scatter'

/** By the place in one layer's map, the text, the position in it, or the token. */
export type ColourBy = 'place' | 'text' | 'position' | 'token'

export interface PointColours {
  colours: string[]
  /** A scale with its two ends named, or a few names with how many points have each. */
  legend:
    | { kind: 'scale'; colours: string[]; ends: [string, string] }
    | { kind: 'names'; names: { name: string; colour: string; count: number }[] }
}

/** Okabe and Ito's colours, told apart by colour-blind readers too; without those too light or too dark for either ground. */
const NAMED = ['#e69f00', '#0072b2', '#cc79a7', '#009e73', '#d55e00', '#56b4e9']
const OTHERS = '#8a8780'
/** The ends of a palette are lost on a light or on a dark ground. */
const SHARE = [0.08, 0.9] as const

/** Which of them tell points apart, with what to call them. */
export function colourChoices(points: readonly PointReport[], layer: number): { by: ColourBy; name: string }[] {
  const several = (values: unknown[]) => new Set(values).size > 1
  return [
    { by: 'place', name: `place in layer ${layer}` },
    ...(several(points.map(point => point.sequence)) ? [{ by: 'text', name: 'text' } as const] : []),
    ...(several(points.map(point => point.position))
      ? [{ by: 'position', name: 'position in the text' } as const]
      : []),
    ...(several(points.map(point => point.token)) ? [{ by: 'token', name: 'token' } as const] : []),
  ]
}

export function pointColours(
  by: ColourBy,
  points: readonly PointReport[],
  map: LayerMap,
  palette: Palette,
): PointColours {
  if (by === 'token') return byToken(points)
  if (by === 'place') {
    const places = Array.from(
      { length: map.dims > 0 ? map.coordinates.length / map.dims : 0 },
      (_, point) => map.coordinates[point * map.dims]!,
    )
    return scaled(ranks(places), palette, ['left', `right, in layer ${map.layer}`], [0, 1])
  }
  const values = points.map(point => (by === 'text' ? point.sequence : point.position))
  const [low, high] = [Math.min(...values), Math.max(...values)]
  return scaled(
    values,
    palette,
    by === 'text'
      ? [`text ${low + 1}`, `${high + 1}, in reading order`]
      : [`token ${low + 1}`, `${high + 1} of its text`],
    [low, high],
  )
}

/** A token as it can be read: what is white or empty is named. */
export function tokenName(token: string | undefined): string {
  if (!token) return 'none'
  const text = token.replaceAll('\n', '↵').replaceAll('\t', '⇥').trim()
  return text === '' ? 'space' : text
}

function byToken(points: readonly PointReport[]): PointColours {
  const counts = new Map<string, number>()
  for (const { token } of points) counts.set(tokenName(token), (counts.get(tokenName(token)) ?? 0) + 1)
  const frequent = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, NAMED.length)
  const names = frequent.map(([name, count], i) => ({ name, count, colour: NAMED[i]! }))
  const known = new Map(names.map(({ name, colour }) => [name, colour]))
  const rest = points.length - names.reduce((sum, { count }) => sum + count, 0)
  return {
    colours: points.map(({ token }) => known.get(tokenName(token)) ?? OTHERS),
    legend: {
      kind: 'names',
      names: rest > 0 ? [...names, { name: 'all others', count: rest, colour: OTHERS }] : names,
    },
  }
}

function scaled(
  values: readonly number[],
  palette: Palette,
  ends: [string, string],
  [low, high]: [number, number],
): PointColours {
  const of = (share: number) => colourOf(SHARE[0] + (SHARE[1] - SHARE[0]) * share, palette)
  const colours = values.map(value => of(high > low ? (value - low) / (high - low) : 0))
  return { colours, legend: { kind: 'scale', colours: Array.from({ length: 32 }, (_, i) => of(i / 31)), ends } }
}

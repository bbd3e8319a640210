/**
 * One shape and one colour a method. No two of the first thirteen share a shape, so that colour is never
 * needed to tell them apart; the hues are those of Okabe and Ito, dark on paper and light on ink.
 */

type Point = readonly [x: number, y: number]

const around = (corners: number, turn = -90, radii: readonly number[] = [1]): Point[] =>
  Array.from({ length: corners }, (_, i) => {
    const angle = ((turn + (360 * i) / corners) * Math.PI) / 180
    const radius = radii[i % radii.length]!
    return [radius * Math.cos(angle), radius * Math.sin(angle)]
  })
const CROSS: Point[] = [
  [-0.35, -1],
  [0.35, -1],
  [0.35, -0.35],
  [1, -0.35],
  [1, 0.35],
  [0.35, 0.35],
  [0.35, 1],
  [-0.35, 1],
  [-0.35, 0.35],
  [-1, 0.35],
  [-1, -0.35],
  [-0.35, -0.35],
]
const turned = (points: readonly Point[]): Point[] =>
  points.map(([x, y]) => [(x - y) * Math.SQRT1_2, (x + y) * Math.SQRT1_2])

/** In a circle of radius 1; the first is the circle itself. */
const SHAPES: readonly (readonly Point[])[] = [
  [],
  around(4, -45, [1.15]),
  around(3, -90, [1.25]),
  around(4, -90, [1.25]),
  around(3, 90, [1.25]),
  CROSS,
  around(10, -90, [1.3, 0.52]),
  turned(CROSS),
  around(6, 0, [1.1]),
  [
    [-1, -1],
    [1, -1],
    [-1, 1],
    [1, 1],
  ],
  around(3, 0, [1.25]),
  [
    [-1.3, -0.5],
    [1.3, -0.5],
    [1.3, 0.5],
    [-1.3, 0.5],
  ],
  around(3, 180, [1.25]),
]

const COLOURS = [
  'light-dark(#0072b2, #56a9e0)',
  'light-dark(#c04a00, #f08a4b)',
  'light-dark(#00795a, #35c29a)',
  'light-dark(#a8467f, #e39ac8)',
  'light-dark(#8a6400, #e9b84a)',
  'light-dark(#3e8fc8, #a5d8f5)',
  'light-dark(#1d1c1a, #ecebe6)',
  'light-dark(#77736a, #9b978d)',
] as const

/** The outline of the shape of a method, by its place among all methods. */
export function markPath(method: number, radius: number): string {
  const points = SHAPES[method % SHAPES.length]!
  const n = (value: number) => Number((value * radius).toFixed(2))
  if (points.length === 0) return `M${-n(1)} 0A${n(1)} ${n(1)} 0 1 1 ${n(1)} 0A${n(1)} ${n(1)} 0 1 1 ${-n(1)} 0Z`
  return `M${points.map(([x, y]) => `${n(x)} ${n(y)}`).join('L')}Z`
}

export function markColour(method: number): string {
  return COLOURS[method % COLOURS.length]!
}

import type { TermName } from './terms'

/** The guided walk: one idea a screen, in this order. The names are those in the address, `#walk/kernel`. */
export const SCREENS = [
  { id: 'stream', title: 'Why would layers repeat?', short: 'The stream' },
  { id: 'tokens', title: 'Two texts, two lists of numbers', short: 'Two texts' },
  { id: 'distance', title: 'How far apart are they?', short: 'Distance' },
  { id: 'kernel', title: 'Near counts, far fades', short: 'Kernel' },
  { id: 'walk', title: 'A walk from text to text', short: 'Random walk' },
  { id: 'eigenvectors', title: 'Patterns that a step only shrinks', short: 'Eigenvectors' },
  { id: 'map', title: 'A map of the layer', short: 'Map' },
  { id: 'two-maps', title: 'Two layers, two maps', short: 'Two maps' },
  { id: 'information', title: 'What one map tells about the other', short: 'Mutual information' },
  { id: 'cell', title: 'One square of the picture', short: 'One square' },
  { id: 'merge', title: 'Two layers become one', short: 'A merge' },
  { id: 'kinds', title: 'Layers of different kinds', short: 'Kinds of layers' },
  { id: 'cost', title: 'What it cost', short: 'The cost' },
  { id: 'fit', title: 'Better: keep what is needed, and fit it again', short: 'Pool and refit' },
  { id: 'guess', title: 'Guess which layers were planted', short: 'Your turn' },
] as const

export type ScreenId = (typeof SCREENS)[number]['id']

const TERM_SCREENS: Partial<Record<TermName, ScreenId>> = {
  'Block Influence': 'stream',
  calibration: 'tokens',
  bandwidth: 'kernel',
  eigenvalue: 'eigenvectors',
  'diffusion map': 'map',
  'mutual information': 'information',
  similarity: 'cell',
  alpha: 'merge',
  'kind of layer': 'kinds',
  perplexity: 'cost',
  KL: 'cost',
  agreement: 'cost',
  collapsed: 'cost',
  elbow: 'cost',
  fitted: 'fit',
  'held out': 'fit',
}

/** Where the walk shows what a term means; null for what is not on the way. */
export function screenOfTerm(term: TermName): ScreenId | null {
  return TERM_SCREENS[term] ?? null
}

export function addressOf(screen: ScreenId): string {
  return `#walk/${screen}`
}

/** The screen that a fragment names: `#walk` is the first, and so is a name that there is not; null for all else. */
export function screenAt(fragment: string): ScreenId | null {
  const found = /^#walk(?:\/(.*))?$/.exec(fragment)
  return found && (SCREENS.find(screen => screen.id === found[1])?.id ?? SCREENS[0].id)
}

export function placeOf(screen: ScreenId): number {
  return SCREENS.findIndex(({ id }) => id === screen)
}

/** The screen so many further on; null past either end. */
export function screenFrom(screen: ScreenId, by: number): (typeof SCREENS)[number] | null {
  return SCREENS[placeOf(screen) + by] ?? null
}

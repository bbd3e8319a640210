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

/** The page of the walk that is no step: what the class is asked, and the answers. */
export const ANSWERS = 'answers'

/** What the address can open of the walk. */
export type WalkPage = ScreenId | typeof ANSWERS

/** The fragment of a page of the walk; `controls` are the values of its controls, as `www/walk/link.ts` writes them. */
export function addressOf(page: WalkPage, controls = ''): string {
  return `#walk/${page}${controls && `?${controls}`}`
}

/** The page that a fragment names: `#walk` is the first step, and so is a name that there is not; null for all else. */
export function pageAt(fragment: string): WalkPage | null {
  const found = /^#walk(?:\/([^?]*))?(?:\?.*)?$/s.exec(fragment)
  if (!found) return null
  return found[1] === ANSWERS ? ANSWERS : (SCREENS.find(screen => screen.id === found[1])?.id ?? SCREENS[0].id)
}

/** The values of controls that a fragment of the walk holds; empty where there are none. */
export function controlsAt(fragment: string): string {
  return pageAt(fragment) ? fragment.split('?').slice(1).join('?') : ''
}

export function placeOf(screen: ScreenId): number {
  return SCREENS.findIndex(({ id }) => id === screen)
}

/** The screen so many further on; null past either end. */
export function screenFrom(screen: ScreenId, by: number): (typeof SCREENS)[number] | null {
  return SCREENS[placeOf(screen) + by] ?? null
}

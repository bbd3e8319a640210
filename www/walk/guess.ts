/** The self-test: which of the demo's layers were planted. */

/** A layer that turns what it gets by less than this does next to nothing. */
const NEXT_TO_NOTHING = 1e-3

/** The planted layers, by what each does to its input: `1 - cos` of what enters and what leaves it. */
export function plantedBy(blockInfluence: readonly number[]): number[] {
  return blockInfluence.flatMap((influence, layer) => (influence < NEXT_TO_NOTHING ? [layer] : []))
}

/** Each layer that works, with the planted ones that follow it. */
export function groupsGuessed(planted: readonly number[], layers: number): number[][] {
  const groups: number[][] = []
  for (let layer = 0; layer < layers; layer++) {
    if (layer > 0 && planted.includes(layer)) groups.at(-1)!.push(layer)
    else groups.push([layer])
  }
  return groups
}

export interface Marked {
  right: number[]
  /** Marked, but they work. */
  wrong: number[]
  missed: number[]
  /** What to look at next, in a sentence. */
  advice: string
}

export function mark(guess: readonly number[], planted: readonly number[], layers: number): Marked {
  const right = planted.filter(layer => guess.includes(layer))
  const wrong = guess.filter(layer => !planted.includes(layer)).toSorted((a, b) => a - b)
  const missed = planted.filter(layer => !guess.includes(layer))
  return { right, wrong, missed, advice: advise(wrong, missed, groupsGuessed(planted, layers)) }
}

function advise(wrong: readonly number[], missed: readonly number[], groups: readonly (readonly number[])[]): string {
  const groupOf = (layer: number) => groups.find(group => group.includes(layer))!
  const original = wrong.find(layer => groupOf(layer).length > 1)
  if (original !== undefined) {
    return `Layer ${original} does look like those after it, but it came first: it does the work, and the planted ones pass it on.`
  }
  const loner = wrong[0]
  if (loner !== undefined) return `Layer ${loner} is in no light block: its map is unlike those of both its neighbours.`
  const first = missed[0]
  if (first !== undefined) {
    const group = groupOf(first)
    return `Something is missing. Look at the square of layers ${first - 1} and ${first}${group.length > 2 ? ', and at how far that light block goes' : ''}.`
  }
  return 'Each light block is one layer that works and the planted ones behind it, which pass on what they get.'
}

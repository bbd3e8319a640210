import { moveInGrid } from '../../charts/matrix'
import { block, whole, zoomed, type GridCell, type View } from '../../charts/view'

type Key = Pick<KeyboardEvent, 'key' | 'ctrlKey' | 'metaKey' | 'altKey' | 'shiftKey' | 'preventDefault'>

/** The picture that keys act on. */
export interface Keyed {
  n: number
  /** The cell that has the focus. */
  at: GridCell
  /** The part that is shown; `view` is null where that is the whole. */
  shown: View
  view: View | null
  /** The block that is marked. */
  brush: View | null
  go(cell: GridCell): void
  show(view: View): void
  mark(block: View | null): void
  pick?: ((cell: GridCell) => void) | undefined
  merge?: ((cell: GridCell) => void) | undefined
}

/**
 * Keys on the heatmap: arrows go from cell to cell, with Shift they mark a block; Enter zooms to it, or chooses the cell;
 * plus, minus and 0 zoom, M merges.
 */
export class Keys {
  /** Where a block that is drawn by keyboard began. */
  private anchor: GridCell | null = null

  constructor(private readonly picture: () => Keyed) {}

  pressed(event: Key): void {
    const { key } = event
    const { n, at, shown, view, brush, go, show, mark, pick, merge } = this.picture()
    const next = moveInGrid(key, event.ctrlKey || event.metaKey, at, n)
    if (next) {
      this.anchor = event.shiftKey ? (this.anchor ?? at) : null
      mark(this.anchor ? block(this.anchor, next) : null)
      go(next)
    } else if (event.ctrlKey || event.metaKey || event.altKey) return
    else if (key === 'Enter' || key === ' ') {
      if (brush && this.anchor) show(brush)
      else if (pick) pick(at)
      else return
      this.anchor = null
    } else if (key === '+' || key === '=') show(zoomed(shown, 1.5, at, n))
    else if (key === '-') show(zoomed(shown, 1 / 1.5, at, n))
    else if (key === '0' || (key === 'Escape' && (brush || view))) {
      show(whole(n))
      mark(null)
      this.anchor = null
    } else if (key.toLowerCase() === 'm' && merge) merge(at)
    else return
    event.preventDefault()
  }
}

import { block, moved, zoomed, type GridCell, type View } from '../../charts/view'

type Point = { x: number; y: number }
type At = { clientX: number; clientY: number }
type Pointer = At & Pick<PointerEvent, 'pointerId' | 'pointerType' | 'button' | 'shiftKey'>

/** The picture that gestures act on. */
export interface Picture {
  n: number
  /** The part that is shown, and the side of a cell in CSS pixels. */
  shown: View
  cell: number
  /** One finger draws a block instead of moving the part that is shown. */
  brushing: boolean
  /** The cell under a place of the screen; the nearest one if `clamped`. */
  under(at: At, clamped?: boolean): GridCell | null
  show(view: View): void
  /** A block is being drawn, or no longer. */
  mark(block: View | null): void
  /** A cell is pointed at, or none. */
  point(cell: GridCell | null): void
  press(cell: GridCell): void
  /** Goes on telling where the pointer is when it leaves the picture. */
  capture(pointer: number): void
}

/** A pointer that moves less is a click. */
const CLICK_PX = 6

/**
 * Mouse and fingers on the heatmap: pointing reads, a click chooses, dragging draws a block and zooms to it; with
 * Shift, or by one finger, dragging moves the part that is shown; two fingers zoom.
 */
export class Gestures {
  /** Fingers and buttons that are down. */
  private readonly down: Record<number, Point> = {}
  private from: GridCell | null = null
  private start: Point = { x: 0, y: 0 }
  private before: View | null = null
  private spread = 0
  private drag: 'brush' | 'pan' | 'pinch' | null = null
  private marked: View | null = null

  constructor(private readonly picture: () => Picture) {}

  get dragging(): boolean {
    return this.drag !== null
  }

  pressed(event: Pointer): void {
    if (event.button !== 0) return
    const picture = this.picture()
    this.down[event.pointerId] = { x: event.clientX, y: event.clientY }
    this.before = picture.shown
    if (this.fingers.length === 2) {
      this.spread = this.distance()
      this.drag = 'pinch'
      this.mark(null)
    } else {
      this.from = picture.under(event)
      this.start = { x: event.clientX, y: event.clientY }
      this.drag = null
    }
  }

  moved(event: Pointer): void {
    const picture = this.picture()
    if (this.down[event.pointerId]) this.down[event.pointerId] = { x: event.clientX, y: event.clientY }
    if (this.drag === 'pinch') return this.pinch(picture)
    if (this.from && this.fingers.length === 1) {
      if (!this.drag && Math.hypot(event.clientX - this.start.x, event.clientY - this.start.y) > CLICK_PX) {
        this.drag = event.shiftKey || (event.pointerType === 'touch' && !picture.brushing) ? 'pan' : 'brush'
        picture.capture(event.pointerId)
      }
      if (this.drag === 'brush') {
        const to = picture.under(event, true)
        if (to) {
          this.mark(block(this.from, to))
          picture.point(to)
        }
        return
      }
      if (this.drag === 'pan' && this.before) {
        const cells = (pixels: number) => Math.round(pixels / picture.cell)
        return picture.show(
          moved(this.before, cells(this.start.y - event.clientY), cells(this.start.x - event.clientX), picture.n),
        )
      }
    }
    picture.point(picture.under(event))
  }

  released(event: Pointer): void {
    const picture = this.picture()
    delete this.down[event.pointerId]
    if (this.drag === 'brush' && this.marked) {
      if (this.marked.rows > 1 || this.marked.cols > 1) picture.show(this.marked)
      else this.mark(null)
    } else if (!this.drag && this.from) {
      const under = picture.under(event)
      if (under?.[0] === this.from[0] && under[1] === this.from[1]) picture.press(under)
    }
    if (this.fingers.length === 0) this.end()
  }

  cancelled(event: Pointer): void {
    delete this.down[event.pointerId]
    if (this.drag === 'brush') this.mark(null)
    this.end()
  }

  private get fingers(): Point[] {
    return Object.values(this.down)
  }

  private distance(): number {
    const [a, b] = this.fingers
    return a && b ? Math.max(1, Math.hypot(a.x - b.x, a.y - b.y)) : 0
  }

  private pinch({ under, show, n }: Picture): void {
    const [a, b] = this.fingers
    if (!a || !b || !this.before || this.spread === 0) return
    const middle = under({ clientX: (a.x + b.x) / 2, clientY: (a.y + b.y) / 2 }, true)
    const factor = this.distance() / this.spread
    if (middle && Math.abs(factor - 1) > 0.05) show(zoomed(this.before, factor, middle, n))
  }

  private mark(view: View | null): void {
    this.marked = view
    this.picture().mark(view)
  }

  private end(): void {
    this.from = this.drag = this.marked = null
  }
}

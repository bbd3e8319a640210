/** How large a step of the walk is: as large as the window of a projector can hold, without scrolling. */

/** Windows as wide as this hold words and picture side by side, and a step is to be one screen. */
const WIDE = 960
/** Smaller than this nobody at the back of a room can read. */
const LEAST = 0.55
/** How often a step is looked at until its pictures have their size. */
const LOOKS = 3

/** The size of what a dialog shows. */
export class Zoom {
  /** Looks of an earlier fit are not followed up. */
  #fit = 0

  constructor(
    private readonly content: HTMLElement,
    private readonly dialog: HTMLElement,
  ) {}

  /** Makes the content as large as fits, at most by the factor `most`; null leaves its size and lets it scroll. */
  fit(most: number | null): void {
    this.#fit++
    if (most === null || this.dialog.clientWidth < WIDE) this.content.style.zoom = ''
    else this.#look(most, LOOKS, this.#fit)
  }

  /** Makes content smaller that has outgrown its window. */
  shrink(): void {
    if (this.dialog.clientWidth < WIDE || this.dialog.scrollHeight <= this.dialog.clientHeight) return
    this.#look(this.#now, 1, this.#fit)
  }

  get #now(): number {
    return Number(this.content.style.zoom || 1)
  }

  /**
   * Pictures have their size a frame after the step has its own, so the step is looked at again: once in full, and
   * then only to make it smaller, so that the size comes to rest.
   */
  #look(most: number, looks: number, fit: number) {
    if (fit !== this.#fit) return
    if (!this.#fits(most)) {
      let [fitting, over] = [LEAST, most]
      while (over - fitting > 0.01) {
        const between = (fitting + over) / 2
        if (this.#fits(between)) fitting = between
        else over = between
      }
      this.#fits(fitting)
    }
    const next = looks === LOOKS ? most : this.#now
    if (looks > 1) requestAnimationFrame(() => requestAnimationFrame(() => this.#look(next, looks - 1, fit)))
  }

  #fits(zoom: number): boolean {
    this.content.style.zoom = zoom === 1 ? '' : zoom.toFixed(3)
    return this.dialog.scrollHeight <= this.dialog.clientHeight
  }
}

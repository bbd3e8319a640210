/** The focus of who works by keyboard: it is not to fall off the page when what had it goes away or is switched off. */

/** So many elements that had it are remembered. */
const REMEMBERED = 8
/** Marks the progress of the step that runs. */
const RUN = '[data-run]'

export class FocusKeeper {
  /** What had the focus, the latest first. */
  private past: HTMLElement[] = []
  /** The sections that these were in: an element that is gone is in none. */
  private readonly homes = new WeakMap<HTMLElement, HTMLElement | null>()

  constructor(private readonly document: Document) {}

  /** Something got the focus. */
  saw(target: EventTarget | null): void {
    if (!(target instanceof HTMLElement) || target.closest(RUN)) return
    this.past = [target, ...this.past.filter(other => other !== target)].slice(0, REMEMBERED)
    this.homes.set(target, target.closest<HTMLElement>('section'))
  }

  /** The reader has gone to a place of the page, from which Tab goes on: there is nothing to go back to. */
  left(): void {
    this.past = []
  }

  /**
   * If nothing has the focus: gives it to the step that runs, so that Tab leads to Pause and Cancel; else back to what
   * had it last; where that is gone, to the heading of `stage`; and without a stage to what had it before that, or to
   * the section around it.
   */
  mend(running: boolean, stage: string | null): void {
    const [last, ...before] = this.past
    if (!this.lost() || !last) return
    const heading = stage ? this.document.getElementById(`${stage}-heading`) : null
    const run = running ? this.document.querySelector<HTMLElement>(RUN) : null
    const target =
      run ?? (running ? null : usable(last) ? last : (heading ?? before.find(usable) ?? this.homes.get(last) ?? null))
    if (!target?.isConnected) return
    if (target.tabIndex < 0 && !target.hasAttribute('tabindex')) target.tabIndex = -1
    target.focus({ preventScroll: true })
  }

  private lost(): boolean {
    const { activeElement, body } = this.document
    return activeElement === null || activeElement === body || !usable(activeElement as HTMLElement)
  }
}

/** Whether it can have the focus: what is in a closed popover or fold cannot. */
function usable(element: HTMLElement): boolean {
  return element.isConnected && !element.matches(':disabled') && element.getClientRects().length > 0
}

import { linkedControls, linkedPage, onAddress, putBack, turnTo } from '../app/address'
import { ANSWERS, pageAt, SCREENS, type ScreenId, type WalkPage } from '../words/screens'

/**
 * Where in the walk the page is, by the fragment of its address: so a step can be linked to, and the browser's
 * Back leaves the walk. The page stays as it is underneath.
 */
class Place {
  page = $state<WalkPage | null>(linkedPage())
  /** The values of controls that the address brought along; empty once a page was turned. */
  controls = $state(linkedControls())
  /** The step that is shown, or was shown before the answers. */
  #step = $state<ScreenId>(SCREENS[0].id)
  /** The fragment that was there before, put back on leaving. */
  #before = ''

  constructor() {
    onAddress(was => {
      if (!pageAt(was)) this.#before = was
      this.#arrive(linkedPage(), linkedControls())
    })
    this.#arrive(this.page, this.controls)
  }

  get step(): ScreenId {
    return this.#step
  }

  /** Turns to a page. It takes the place of the last one in the history, so that Back is not a page of each. */
  go(page: WalkPage) {
    turnTo(page)
    this.#arrive(page, '')
  }

  leave() {
    putBack(this.#before)
    this.#arrive(null, '')
  }

  #arrive(page: WalkPage | null, controls: string) {
    this.page = page
    this.controls = controls
    if (page && page !== ANSWERS) this.#step = page
  }
}

export const place = new Place()

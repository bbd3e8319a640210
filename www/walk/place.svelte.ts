import { linkedScreen, onAddress, putBack, turnTo } from '../app/address'
import { screenAt, type ScreenId } from '../words/screens'

/**
 * Where in the walk the page is, by the fragment of its address: so a screen can be linked to, and the browser's
 * Back leaves the walk. The page stays as it is underneath.
 */
class Place {
  screen = $state<ScreenId | null>(linkedScreen())
  /** The fragment that was there before, put back on leaving. */
  #before = ''

  constructor() {
    onAddress(was => {
      if (!screenAt(was)) this.#before = was
      this.screen = linkedScreen()
    })
  }

  /** Turns to a screen. It takes the place of the last one in the history, so that Back is not a page of each. */
  go(screen: ScreenId) {
    turnTo(screen)
    this.screen = screen
  }

  leave() {
    putBack(this.#before)
    this.screen = null
  }
}

export const place = new Place()

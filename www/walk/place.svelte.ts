import { addressOf, screenAt, type ScreenId } from '../words/screens'

/**
 * Where in the walk the page is, by the fragment of its address: so a screen can be linked to, and the browser's
 * Back leaves the walk. The page stays as it is underneath.
 */
class Place {
  screen = $state<ScreenId | null>(screenAt(location.hash))
  /** The fragment that was there before, put back on leaving. */
  #before = ''

  constructor() {
    addEventListener('hashchange', ({ oldURL }) => {
      const was = new URL(oldURL).hash
      if (!screenAt(was)) this.#before = was
      this.screen = screenAt(location.hash)
    })
  }

  /** Turns to a screen. It takes the place of the last one in the history, so that Back is not a page of each. */
  go(screen: ScreenId) {
    history.replaceState(history.state, '', addressOf(screen))
    this.screen = screen
  }

  leave() {
    history.replaceState(history.state, '', location.pathname + location.search + this.#before)
    this.screen = null
  }
}

export const place = new Place()

/** The address of the page: all that reads or writes `location`, but for links that are followed by themselves. */
import { addressOf, controlsAt, pageAt, type WalkPage } from '../words/screens'

const RESULT = '#result='

/** The fragment that holds a result; null where the address holds none. */
export const linkedResult = (): string | null => (location.hash.startsWith(RESULT) ? location.hash : null)

/** The whole address, which a link to a result is read from. */
export const wholeAddress = (): string => location.href

/** The address of this page with another fragment, and without the options after `?`, to be given away. */
export const addressWith = (fragment: string): string => location.href.split(/[?#]/)[0]! + fragment

/** The address of a file beside the page. */
export const addressBeside = (path: string): string => new URL(path, location.href.split(/[?#]/)[0]).href

/** The options after `?`. */
export const addressOptions = (): string => location.search

/** What the address says of one option; null where the option is not in it. */
export const addressOption = (name: string): string | null => new URLSearchParams(location.search).get(name)

/** Takes an option out of the address, once the page no longer follows it. */
export function forgetOption(name: string): void {
  const options = new URLSearchParams(location.search)
  if (!options.has(name)) return
  options.delete(name)
  const rest = options.toString()
  history.replaceState(history.state, '', location.pathname + (rest && `?${rest}`) + location.hash)
}

/** The page of the walk that the address names; null where the walk is not open. */
export const linkedPage = (): WalkPage | null => pageAt(location.hash)

/** The values of the walk's controls that the address holds. */
export const linkedControls = (): string => controlsAt(location.hash)

/** Names a page of the walk. It takes the place of the last one in the history, so that Back is not a page of each. */
export function turnTo(page: WalkPage): void {
  history.replaceState(history.state, '', addressOf(page))
}

/** Puts another fragment, or none, in the place of the present one. */
export function putBack(fragment: string): void {
  history.replaceState(history.state, '', location.pathname + location.search + fragment)
}

/** An address that no longer says what is shown is put right. */
export function forgetResult(): void {
  if (linkedResult()) putBack('')
}

/** Calls `changed` with the fragment that was there before, whenever the address changes without a reload. */
export function onAddress(changed: (before: string) => void): void {
  addEventListener('hashchange', ({ oldURL }) => changed(new URL(oldURL).hash))
}

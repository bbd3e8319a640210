/** The start of the page, and what its address says later on. */
import { detectFeatures, preferenceFrom } from '../engine/features'
import { closeResult, openResult } from '../share/open'
import { ownTask } from '../ui/later'
import type { Actions } from './actions'
import { addressOptions, forgetResult, linkedResult, linkedPage, wholeAddress } from './address'

/**
 * Starts the page, and ends once the engine runs. With a result in the address the engine is not loaded until a step needs
 * it: figures open without it. A link that cannot be read leaves the page as it always is, and says why.
 */
export async function startPage(actions: Actions): Promise<void> {
  const { state } = actions
  // Before anything is waited for: whoever clicks first is to get the device that the address asks for.
  Object.assign(state, { features: detectFeatures(), preference: preferenceFrom(addressOptions()) })
  state.advanced.begin()
  if (!linkedResult()) {
    // The engine compiles on all cores; the page is built before.
    await ownTask()
    return actions.start()
  }
  await openLinked(actions)
  if (!state.viewing) await actions.start()
}

/**
 * The address has changed without a reload: by a link that was pasted, by Back and Forward, or by a click that leads
 * elsewhere on the page. A result from the address is shown as long as the address says so, or the walk lies over it.
 */
export async function followAddress(actions: Actions): Promise<void> {
  const shown = actions.state.viewing?.link ?? null
  const linked = linkedResult()
  if (linked) {
    if (linked !== shown) await openLinked(actions)
  } else if (shown && !linkedPage()) closeResult(actions)
}

/** Shows the result in the address. */
async function openLinked(actions: Actions): Promise<void> {
  try {
    await openResult(actions, wholeAddress())
  } catch (thrown) {
    forgetResult()
    actions.report(thrown, null)
  }
}

/** The switch "Advanced": it shows, in all stages at once, the settings that most people never need. */
import { addressOption, forgetOption } from './address'

const KEY = 'laminate-advanced'
/** The option of the page's address, `?advanced=on`. */
const OPTION = 'advanced'

export class Advanced {
  on = $state(false)

  /** Begins as the address asks, otherwise as the switch was left on this device. */
  begin(): void {
    const asked = addressOption(OPTION)
    this.on = asked === 'on' || (asked !== 'off' && remembered())
  }

  /** What the user chooses holds from now on, whatever the address asked for. */
  choose(on: boolean): void {
    this.on = on
    forgetOption(OPTION)
    try {
      localStorage.setItem(KEY, on ? 'on' : 'off')
    } catch {
      // Where storage is refused, the choice lasts as long as the page.
    }
  }
}

function remembered(): boolean {
  try {
    return localStorage.getItem(KEY) === 'on'
  } catch {
    return false
  }
}

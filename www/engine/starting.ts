/** How the engine is started on a device, for the page and for other people's pages. */
import { toEngineError } from './errors'
import type { Calls } from './messages'
import type { DevicePreference, DeviceReport } from './protocol/device'

/** What one page has learned of its graphics device. */
export interface Graphics {
  /** What is wrong with the device, once it has ended a worker that started on it. */
  unusable: string | undefined
}

/**
 * Starts the engine by `create`, a call to its worker. A graphics device that ends the engine is left for the CPU, unless
 * the user insists on that device.
 */
export async function startOn(
  preference: DevicePreference,
  graphics: Graphics,
  create: (...args: Calls['create']['args']) => Promise<DeviceReport>,
): Promise<DeviceReport> {
  if (preference !== 'auto') return create(preference)
  try {
    return await create('auto', graphics.unusable)
  } catch (thrown) {
    const { kind, message } = toEngineError(thrown)
    if (graphics.unusable || (kind !== 'internal' && kind !== 'device')) throw thrown
    graphics.unusable = kind === 'internal' ? `it stopped the engine (${within(message)})` : clause(message)
    return create('auto', graphics.unusable)
  }
}

/** The first sentence, as a clause. */
function clause(sentences: string): string {
  const first = sentences.split(/\.( |$)/, 1)[0]!
  return first.charAt(0).toLowerCase() + first.slice(1)
}

/** What a sentence says in brackets, or all of it, without the name of what was thrown. */
function within(sentence: string): string {
  return (/\((.*)\)/s.exec(sentence)?.[1] ?? sentence).replace(/^(Uncaught )?(\w*Error: )?/, '')
}

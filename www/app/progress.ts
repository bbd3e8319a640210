import type { Progress, Stage, Unit } from '../engine/protocol/events'
import { bytes, seconds, whole } from '../ui/format'

/** Progress of the engine, or of what the page does while the engine rests: llama.cpp writes text or is timed, files are sent. */
export type Activity = Omit<Progress, 'stage' | 'unit'> & {
  stage: Stage | 'continue' | 'time' | 'send'
  unit: Unit | 'runs'
}

/** One look at the clock and the counter. */
export interface Moment {
  at_ms: number
  progress: Activity
}

export interface Reading {
  /** 0 to 1, of the present stage. */
  fraction: number
  /** "Running layer 12 of 32". */
  what: string
  /** "3.1 layers a second, 6 s left"; empty until there is something to measure. */
  pace: string
  /** Its two halves. */
  rate: string
  left: string
}

const VERBS: Record<Activity['stage'], string> = {
  read: 'Reading',
  capture: 'Running',
  similarity: 'Comparing',
  plan: 'Merging',
  evaluate: 'Measuring',
  heal: 'Healing',
  write: 'Writing',
  check: 'Checking',
  continue: 'Continuing',
  time: 'Timing',
  send: 'Sending',
}

/** Rate and time left are measured over the present stage only: stages count different things. */
export function describe(first: Moment, last: Moment): Reading {
  const { stage, done, total, unit, detail } = last.progress
  const fraction = total > 0 ? Math.min(1, done / total) : 0
  const spent = (last.at_ms - first.at_ms) / 1000
  const gained = done - first.progress.done
  const rate = spent > 0.2 && gained > 0 ? gained / spent : 0
  const left = rate > 0 && done < total ? `${seconds((total - done) / rate)} left` : ''
  const each = rate > 0 ? perSecond(rate, unit) : ''
  return {
    fraction,
    what: `${VERBS[stage]} ${detail || `${whole(done)} of ${whole(total)} ${unit}`}`,
    pace: [each, left].filter(Boolean).join(', '),
    rate: each,
    left,
  }
}

function perSecond(rate: number, unit: Activity['unit']): string {
  if (unit === 'bytes') return `${bytes(rate)} a second`
  if (rate < 1) return `${seconds(1 / rate)} for each of the ${unit}`
  return `${rate < 10 ? rate.toFixed(1) : whole(rate)} ${unit} a second`
}

import type { Estimate } from '../../engine/protocol/estimate'
import type { ModelReport } from '../../engine/protocol/model'
import type { Moved } from '../../engine/meter'
import { bytes, seconds } from '../../ui/format'
import type { Moment } from '../progress'
import type { Run } from '../state.svelte'

/** One line of what a run does, at the same time as the others. */
export interface RunPart {
  name: 'Reading' | 'Computing' | 'Writing' | 'Keeping'
  /** "1.2 GB of about 4.9 GB". */
  amount: string
}

export interface RunPlan {
  parts: RunPart[]
  /** "about 40 s left"; empty until there is something to measure. */
  left: string
}

export interface Known {
  moved: Moved
  model: ModelReport | null
  estimate: Estimate | null
  /** Bytes of the model that will be written, while one is. */
  result: number
  embedded: boolean
  now_ms: number
}

/** What is under way and what is left of it: reading, computing and writing apart, in their own units. */
export function planOf(run: Run, known: Known): RunPlan {
  const parts: RunPart[] = []
  const progress = run.last?.progress
  // The engine rests, whatever it moved before.
  if (progress?.stage === 'time') return { parts, left: '' }
  if (progress && progress.unit !== 'bytes') parts.push({ name: 'Computing', amount: progress.detail })
  const reading = read(run, known)
  if (reading) parts.push({ name: 'Reading', amount: reading })
  if (run.kind === 'write' && known.moved.written > 0)
    parts.push({ name: 'Writing', amount: of(known.moved.written, known.result) })
  if (run.kept && run.kept.bytes > 0)
    parts.push({
      name: 'Keeping',
      amount: `${bytes(run.kept.bytes)} in this browser, ${run.kept.layers === 1 ? 'the first layer' : `the first ${run.kept.layers} layers`}`,
    })
  return { parts, left: timeLeft(run, known) }
}

/** Where the layers of a run began: at its first, or where it went on. */
export function layersFrom(run: Run, tick: Moment): Run['layersFrom'] {
  const { stage, done, unit } = tick.progress
  if (stage !== 'capture' || unit !== 'layers') return null
  if (run.layersFrom && run.last?.progress.stage === 'capture') return run.layersFrom
  return { layer: Number(/^layer (\d+) of/.exec(tick.progress.detail)?.[1] ?? 1) - 1, done, at_ms: tick.at_ms }
}

/** The demo is part of the engine: nothing is read for it. */
function read(run: Run, { moved, model, embedded }: Known): string {
  if (embedded || moved.read === 0) return ''
  const whole = run.kind === 'similarity' && model ? model.bytes * (1 - (run.layersFrom?.layer ?? 0) / model.layers) : 0
  return whole > moved.read ? `${of(moved.read, whole)} of weights` : `${bytes(moved.read)} of weights`
}

function of(done: number, total: number): string {
  return total > done ? `${bytes(done)} of about ${bytes(total)}` : bytes(done)
}

/**
 * Of the similarity run, whose length is known: the layers that are left at the pace of those that were run, and
 * the head at its share of the arithmetic. Before the second layer the estimate stands in.
 */
function timeLeft(run: Run, { estimate, model, now_ms }: Known): string {
  if (run.kind !== 'similarity' || !run.last || !model || run.pause !== 'no') return ''
  const { stage, done, total, unit } = run.last.progress
  const share = headShare(estimate, model)
  const from = run.layersFrom
  if (stage !== 'capture' || unit !== 'layers' || !from) return ''
  const ran = done - from.done
  const pace =
    ran >= 1 ? (run.last.at_ms - from.at_ms) / 1000 / ran : estimate ? estimate.seconds / (model.layers + share) : 0
  if (pace === 0) return ''
  const since = (now_ms - run.last.at_ms) / 1000
  const left = (total - done + share) * pace - Math.min(since, pace)
  return `about ${seconds(Math.max(1, left))} left`
}

/** The output head, in layers. */
function headShare(estimate: Estimate | null, model: ModelReport): number {
  if (!estimate) return 0
  const head = 2 * estimate.tokens * model.hidden_size * model.vocab_size
  const layer = (estimate.flop - head) / model.layers
  return layer > 0 ? Math.max(0, head / layer) : 0
}

/** The parts of the page and what state each is in, and the four stages that they belong to: pure functions of what has been done. */

export const PARTS = [
  { id: 'model', word: 'Model' },
  { id: 'calibrate', word: 'Calibration' },
  { id: 'see', word: 'Compare' },
  { id: 'plan', word: 'Plan' },
  { id: 'compress', word: 'Result' },
  { id: 'judge', word: 'What was lost' },
  { id: 'take', word: 'Download' },
] as const

export type PartId = (typeof PARTS)[number]['id']

/** The way from a model to a smaller one. A stage is led to at its first part. */
export const STAGES: readonly { word: string; parts: readonly [PartId, ...PartId[]] }[] = [
  { word: 'Open', parts: ['model'] },
  { word: 'Compare', parts: ['see', 'calibrate'] },
  { word: 'Compress', parts: ['plan', 'compress', 'judge'] },
  { word: 'Download', parts: ['take'] },
]

/** A stage is what the most urgent of its parts is, and done when all are. */
export function stageOf(states: Record<PartId, StageState>, parts: readonly PartId[]): StageState {
  const own = parts.map(part => states[part])
  const urgent = (['running', 'stale', 'current'] as const).flatMap(status =>
    own.filter(state => state.status === status),
  )
  return urgent[0] ?? own.find(state => state.status === 'waiting') ?? DONE
}

export type Status = 'done' | 'current' | 'running' | 'stale' | 'waiting'
export type Freshness = 'none' | 'fresh' | 'stale'

export interface Facts {
  model: boolean
  similarity: Freshness
  plan: Freshness
  written: Freshness
  /** 'metric' compares by another metric what was captured; 'costs' measures what removing layers costs; 'sizes' fits the plan anew with less text, and 'heal' trains what it made; 'compare' and 'try' belong to no stage: they stand beside them. 'speed' measures how fast the result runs, 'speeds' does so for a comparison. 'push' sends the result to a hub. */
  running:
    | 'open'
    | 'similarity'
    | 'metric'
    | 'costs'
    | 'plan'
    | 'sizes'
    | 'heal'
    | 'compare'
    | 'speeds'
    | 'write'
    | 'push'
    | 'try'
    | 'speed'
    | null
}

export interface StageState {
  status: Status
  /** Why the stage waits or is stale; empty otherwise. */
  reason: string
}

const NEEDS_MODEL = 'Open a model first.'
const NEEDS_MAPS = 'Compare the layers first.'
const NEEDS_PLAN = 'Compress first.'

export function stageStates(facts: Facts): Record<PartId, StageState> {
  const { model, running } = facts
  const maps = reach(facts.similarity, 'The calibration settings have changed since; compare the layers again.')
  const plan = reach(facts.plan, 'The plan or what it rests on has changed since; compress again.')
  const written = reach(facts.written, 'The model or its options have changed since; write it again.')

  const states: Record<PartId, StageState> = {
    model: model ? DONE : waiting(''),
    calibrate: !model ? waiting(NEEDS_MODEL) : maps === null ? waiting('') : DONE,
    see: !model ? waiting(NEEDS_MODEL) : (maps ?? waiting(NEEDS_MAPS)),
    plan: maps === null ? waiting(model ? NEEDS_MAPS : NEEDS_MODEL) : plan === null ? waiting('') : DONE,
    compress:
      maps === null
        ? waiting(model ? NEEDS_MAPS : NEEDS_MODEL)
        : (plan ?? waiting('Choose how much to remove, then press Compress.')),
    judge: plan ?? waiting(maps === null ? (model ? NEEDS_MAPS : NEEDS_MODEL) : NEEDS_PLAN),
    take:
      plan === null
        ? waiting(maps === null ? (model ? NEEDS_MAPS : NEEDS_MODEL) : NEEDS_PLAN)
        : (written ?? waiting('')),
  }
  const busy = running && RUNS[running]
  if (busy) states[busy] = { status: 'running', reason: '' }
  else {
    const next = PARTS.find(({ id }) => states[id].status !== 'done')
    if (next && states[next.id].status === 'waiting') states[next.id] = { status: 'current', reason: '' }
  }
  return states
}

/** The comparison of methods needs the maps, and says when it was made with other settings. */
export function comparisonState(see: StageState, comparison: Freshness): StageState {
  if (comparison === 'stale')
    return { status: 'stale', reason: 'Compared with other settings than those chosen now; compare again.' }
  if (comparison === 'fresh') return DONE
  return waiting(see.reason || (see.status === 'done' ? '' : NEEDS_MAPS))
}

const DONE: StageState = { status: 'done', reason: '' }

export const ALL_DONE = Object.fromEntries(PARTS.map(({ id }) => [id, DONE])) as Record<PartId, StageState>

const RUNS: Partial<Record<NonNullable<Facts['running']>, PartId>> = {
  open: 'model',
  similarity: 'see',
  metric: 'see',
  costs: 'plan',
  plan: 'compress',
  sizes: 'judge',
  write: 'take',
  push: 'take',
}

const STATUS_WORDS: Record<Status, string> = {
  done: 'done',
  current: 'next',
  running: 'running',
  stale: 'out of date',
  waiting: 'not yet',
}

export function statusWord(status: Status): string {
  return STATUS_WORDS[status]
}

function reach(freshness: Freshness, whyStale: string): StageState | null {
  if (freshness === 'none') return null
  return freshness === 'fresh' ? DONE : { status: 'stale', reason: whyStale }
}

function waiting(reason: string): StageState {
  return { status: 'waiting', reason }
}

/** What was, what is, and what was taken back. */
export interface History<T> {
  past: readonly T[]
  present: T
  future: readonly T[]
}

/** Steps that can be taken back. */
const DEPTH = 200

export function begun<T>(present: T): History<T> {
  return { past: [], present, future: [] }
}

/** A new present; what was taken back is gone. */
export function withPlan<T>({ past, present }: History<T>, next: T): History<T> {
  return { past: [...past, present].slice(-DEPTH), present: next, future: [] }
}

export function undone<T>(history: History<T>): History<T> {
  const { past, present, future } = history
  const before = past.at(-1)
  return before === undefined ? history : { past: past.slice(0, -1), present: before, future: [present, ...future] }
}

export function redone<T>(history: History<T>): History<T> {
  const { past, present, future } = history
  const [next, ...later] = future
  return next === undefined ? history : { past: [...past, present], present: next, future: later }
}

export type HistoryStep = 'undo' | 'redo'

/** Ctrl+Z, and Ctrl+Shift+Z or Ctrl+Y; the command key on a Mac. */
export function travelKey({
  key,
  ctrlKey,
  metaKey,
  shiftKey,
  altKey,
}: Pick<KeyboardEvent, 'key' | 'ctrlKey' | 'metaKey' | 'shiftKey' | 'altKey'>): HistoryStep | null {
  if (altKey || !(ctrlKey || metaKey)) return null
  const letter = key.toLowerCase()
  if (letter === 'z') return shiftKey ? 'redo' : 'undo'
  return letter === 'y' && !shiftKey ? 'redo' : null
}

import { sentence } from '../ui/format'
import type { EngineError, ErrorKind } from './protocol/error'

const KINDS: readonly ErrorKind[] = [
  'source',
  'format',
  'unsupported',
  'shape',
  'numeric',
  'device',
  'limit',
  'usage',
  'cancelled',
  'internal',
]

export class Failure extends Error implements EngineError {
  constructor(
    readonly kind: ErrorKind,
    message: string,
  ) {
    super(message)
    this.name = 'Failure'
  }
}

/** The sentence of whatever was thrown, as the page shows it. */
export function saying(thrown: unknown): string {
  return sentence(withoutDebug(toEngineError(thrown).message))
}

/** The engine's clause about a device, without what its graphics library prints of itself. */
export function withoutDebug(clause: string): string {
  return clause.replace(
    /(no GPU can be used)(?: \((.*)\)|: (.*))/s,
    (whole: string, plain: string, inside?: string, after?: string) =>
      /[{}]|::|Error\b/.test(inside ?? after ?? '') ? plain : whole,
  )
}

/**
 * Whatever was thrown, as an `EngineError`. What the engine throws already is one; a panic of the
 * wasm module arrives as a `RuntimeError`, a browser's refusal as a `DOMException`.
 */
export function toEngineError(thrown: unknown): EngineError {
  if (isEngineError(thrown)) return plain(thrown)
  if (thrown instanceof DOMException) return plain(fromBrowser(thrown))
  const text = thrown instanceof Error ? thrown.message : String(thrown)
  return {
    kind: 'internal',
    message: `The engine stopped unexpectedly (${oneLine(text)}). Its state was discarded; run the step again.`,
  }
}

export function cancelled(): Failure {
  return new Failure('cancelled', 'Cancelled; nothing was written.')
}

export function deviceLost(why: string): Failure {
  const because = oneLine(why)
  return new Failure(
    'device',
    `The graphics device was lost${because && ` (${because})`}. Run the step again; if that happens once more, run it on the CPU.`,
  )
}

export function isCancelled(error: EngineError): boolean {
  return error.kind === 'cancelled'
}

function plain({ kind, message }: EngineError): EngineError {
  return { kind, message }
}

function isEngineError(value: unknown): value is EngineError {
  if (typeof value !== 'object' || value === null) return false
  const { kind, message } = value as Partial<EngineError>
  return typeof message === 'string' && KINDS.includes(kind as ErrorKind)
}

/** `what` is the file or folder in question, for the sentence. */
export function fromBrowser(refusal: DOMException, what?: string): Failure {
  const about = what ?? 'A file'
  switch (refusal.name) {
    case 'AbortError':
      return cancelled()
    case 'QuotaExceededError':
      return new Failure(
        'limit',
        `${about} does not fit: the disk or this browser's storage is full. Free some space, then write again; nothing partial was left.`,
      )
    case 'NotAllowedError':
    case 'SecurityError':
      return new Failure(
        'source',
        `${about} may not be used: the browser refused access. Allow it when asked, or choose another folder.`,
      )
    case 'NotFoundError':
    case 'NotReadableError':
      return new Failure('source', `${about} was moved, changed or removed while it was in use. Open it again.`)
    case 'NoModificationAllowedError':
    case 'InvalidModificationError':
      return new Failure('source', `${about} cannot be written: it is locked or read-only. Choose another folder.`)
    default:
      return new Failure(
        'source',
        `${about}: the browser stopped (${oneLine(refusal.message || refusal.name)}). Try again.`,
      )
  }
}

function oneLine(text: string): string {
  const line = text.split('\n', 1)[0] ?? ''
  return line.replace(/[.\s]+$/, '').slice(0, 200)
}

/** How a call fails. */

/** Who must act; the same names as `Error::kind` in `src/error.rs`. */
export type ErrorKind =
  'source' | 'format' | 'unsupported' | 'shape' | 'numeric' | 'device' | 'limit' | 'usage' | 'cancelled' | 'internal'

export interface EngineError {
  kind: ErrorKind
  /** One sentence that names the file, tensor or layer and says what to do. */
  message: string
}

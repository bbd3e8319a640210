/** A result and the settings it was made with. */
export interface Made<T, O> {
  report: T
  key: string
  options: O
}

/** What the page and the worker that keeps it say to each other, and what the build tells that worker. Types only. */

/** A file of the built page. */
export interface PageFile {
  /** Below the page's own folder; empty for the page itself. */
  path: string
  /** The first 16 hexadecimal digits of the SHA-256 of its content. */
  digest: string
  /** Kept at the first visit; the others once they have been used. */
  atOnce: boolean
  /** For the page itself, which some hosts add to: names of the files that it must ask for. */
  mentions?: string[]
}

/** A waiting version is asked to take the place of the one that runs. */
export type ToKeeper = 'replace'

/** It did not: other tabs of the page are open. */
export type FromKeeper = 'others'

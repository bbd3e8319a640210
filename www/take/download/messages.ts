/** What the page and its download worker say to each other. Types only. */

/** Offers a job, with a port for what becomes of it; or keeps the worker awake. */
export type ToService = { job: string } | 'ping'

export type FromService =
  /** The job's files are there; they are downloaded from below this address. */
  | { ready: string }
  /** Bytes that left. The first message says 0: the browser has asked. */
  | { sent: number }
  | { ended: Ended }

export type Ended = 'done' | 'stopped' | 'failed'

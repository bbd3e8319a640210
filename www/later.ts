/** One piece of the page after the other, each in a task of its own: between them the browser paints and listens. */
let last: Promise<void> = Promise.resolve()

/** Resolves when those who asked before have had their task, in a new one. */
export function ownTask(): Promise<void> {
  last = last.then(() => new Promise(resolve => setTimeout(resolve)))
  return last
}

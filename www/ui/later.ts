/** Pieces of the page, each to be built in a task of its own: between them the browser paints and listens. */
const waiting: (() => void)[] = []
let due = false

/** Resolves in a new task: after those who asked before, or before all of them for what is to be seen first. */
export function ownTask(first = false): Promise<void> {
  return new Promise(resolve => {
    if (first) waiting.unshift(resolve)
    else waiting.push(resolve)
    if (!due) soon()
  })
}

function soon() {
  due = true
  setTimeout(() => {
    waiting.shift()?.()
    due = waiting.length > 0
    if (due) soon()
  })
}

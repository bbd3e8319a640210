/**
 * When the engine is fetched and started: at the first sign that somebody is about to use it, or once the browser has
 * nothing else to do. What is marked by `data-engine` holds the controls that lead to the engine.
 */

/** A browser that is never idle is not waited for longer than this. */
const IDLE_WITHIN_MS = 3000
/** Browsers that do not say when they are idle (Safari) have painted the page by then. */
const PAINTED_WITHIN_MS = 1000

const SIGNS = ['pointerover', 'pointerdown', 'focusin'] as const

/** Calls `act` at the first sign: a pointer or the focus on a control that leads to the engine, or files over the page. Gives what stops that. */
export function onIntent(act: () => void): () => void {
  const stop = new AbortController()
  const { signal } = stop
  const seen = ({ target }: Event) => {
    const control = target instanceof Element && target.closest('button, input, select, label, a')
    if (control && control.closest('[data-engine]')) done()
  }
  const done = () => {
    stop.abort()
    act()
  }
  for (const sign of SIGNS) addEventListener(sign, seen, { signal, passive: true, capture: true })
  addEventListener('dragenter', done, { signal, passive: true })
  return () => stop.abort()
}

/** Calls `act` once the browser is idle. Gives what stops that. */
export function whenIdle(act: () => void): () => void {
  if (typeof requestIdleCallback === 'function') {
    const waiting = requestIdleCallback(act, { timeout: IDLE_WITHIN_MS })
    return () => cancelIdleCallback(waiting)
  }
  const waiting = setTimeout(act, PAINTED_WITHIN_MS)
  return () => clearTimeout(waiting)
}

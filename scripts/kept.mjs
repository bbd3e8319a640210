// @ts-check
/** Which files of the built page a first visit takes, and what that may cost. */

/**
 * llama.cpp is larger than all the rest and loaded by few, the demo needs no prose, and who brings a model needs no demo:
 * kept once they have been used.
 */
const LATER = /^assets\/((llama|wllama)[^/]*|(calibration|evaluation)-[^/]*\.txt|model[^/]*\.planes)$/
/** Browsers fetch service workers themselves, past any of them; the heatmap is for other pages. */
const NEVER = /^(assets\/service-[^/]*|offline\.js|embed\/.*)$/

/** @param {string} path */
export const isKept = path => !NEVER.test(path)

/** Whether the first visit takes it: the page and the engine, without what only some need. @param {string} path */
export const isFirst = path => isKept(path) && !LATER.test(path)

/** Bytes over the network for a first visit, and for the page until it can be used. */
export const BUDGET = { visit: 4_000_000, page: 120_000 }

/**
 * What a first visit transfers, from the compressed length of each file: `visit` all of it, `page` the page and what
 * it asks for by itself. @param {Map<string, number>} lengths @param {string} html
 */
export function firstVisit(lengths, html) {
  const sum = (/** @type {(path: string) => boolean} */ of) =>
    [...lengths].filter(([path]) => of(path)).reduce((total, [, length]) => total + length, 0)
  return {
    visit: sum(path => isFirst(path) && !path.startsWith('icons/')),
    page: sum(path => path === 'index.html' || (path.startsWith('assets/') && html.includes(path))),
  }
}

/** Throws where a first visit has become too expensive. @param {{ visit: number, page: number }} visit */
export function withinBudget(visit) {
  for (const part of /** @type {const} */ (['visit', 'page'])) {
    if (visit[part] <= BUDGET[part]) continue
    throw new Error(
      `The ${part} transfers ${inMb(visit[part])} compressed; ${inMb(BUDGET[part])} is the limit (scripts/kept.mjs). \`npm run bench -- size\` says what takes how much.`,
    )
  }
}

/** @param {number} bytes */
export const inMb = bytes => `${(bytes / 1e6).toFixed(2)} MB`

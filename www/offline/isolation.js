// @ts-check

/** Headers of a page that shares nothing with other sites, so that browsers let its threads share memory. */
export const ISOLATING = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' }

import { defineConfig } from 'vitest/config'

/** The page in a real browser. One file after the other: a browser and a build each, and few cores. */
export default defineConfig({
  test: {
    root: new URL('../../..', import.meta.url).pathname,
    include: ['tests/web/e2e/**/*.e2e.ts'],
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 180_000,
    // A busy machine takes more than the second that is usual.
    expect: { poll: { timeout: 15_000 } },
  },
})

import { defineConfig } from 'vitest/config'

/** The page in a real browser, two files at a time: one computes while the other waits. */
export default defineConfig({
  // Of the page's own code, where a test runs some of it itself.
  define: { __LAMINATE_VERSION__: JSON.stringify('0.0.0') },
  test: {
    root: new URL('../../..', import.meta.url).pathname,
    include: ['tests/web/e2e/**/*.e2e.ts'],
    globalSetup: 'tests/web/e2e/pages.ts',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 180_000,
    // A busy machine takes more than the second that is usual.
    expect: { poll: { timeout: 15_000 } },
  },
})

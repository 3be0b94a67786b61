import { defineConfig } from 'vitest/config';

// Files run in two workers, tests within a file in order. The shared Postgres cluster is
// started once by global-setup; every suite in it has its own database and stream id.
export default defineConfig({
    test: {
        include: ['**/*.test.ts'],
        exclude: ['node_modules/**'],
        globalSetup: ['./support/global-setup.ts'],
        pool: 'forks',
        maxWorkers: 2,
        testTimeout: 60_000,
        hookTimeout: 90_000,
        teardownTimeout: 30_000,
        // The npm client warns of every 409 and of streams that a kill cut short.
        onConsoleLog: (line) => !line.includes('[Electric]'),
    },
});

import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

// The longest first, so that no worker is alone with one of them at the end.
const LONG = [/oracle\/oracle\.test/, /faults\//, /large\//, /browser\/(write-patterns|qa)/, /golden\/(sse|changes)/, /protocol\/(faults|origin)/];

class LongestFirst extends BaseSequencer {
    async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
        const rank = (file: TestSpecification): number => {
            const at = LONG.findIndex((pattern) => pattern.test(file.moduleId));
            return at < 0 ? LONG.length : at;
        };
        return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
    }
}

// Files run in two workers, tests within a file in order. The shared Postgres cluster is
// started once by global-setup; every suite in it has its own database and stream id.
export default defineConfig({
    test: {
        include: ['**/*.test.ts'],
        exclude: ['node_modules/**'],
        globalSetup: ['./support/global-setup.ts'],
        pool: 'forks',
        maxWorkers: 2,
        sequence: { sequencer: LongestFirst },
        testTimeout: 60_000,
        hookTimeout: 90_000,
        teardownTimeout: 30_000,
        // The npm client warns of every 409 and of streams that a kill cut short.
        onConsoleLog: (line) => !line.includes('[Electric]'),
    },
});

// tally.mjs RESULTS STATUS: prints "N passed, N failed, N skipped" from vitest's JSON
// report and ends with 0 only if nothing failed and something passed.
import { existsSync, readFileSync } from 'node:fs';

const [path, status] = process.argv.slice(2);
let passed = 0;
let failed = 0;
let skipped = 0;
if (existsSync(path)) {
    const report = JSON.parse(readFileSync(path, 'utf8'));
    passed = report.numPassedTests;
    failed = report.numFailedTests;
    // A file whose preparation failed has no failed test; it counts as one.
    for (const file of report.testResults) {
        const tests = file.assertionResults;
        if (file.status === 'failed' && !tests.some((t) => t.status === 'failed')) failed++;
    }
    skipped = report.numPendingTests + report.numTodoTests;
}
// A file that cannot even be loaded, or a crash of the runner, has no failed test.
if (failed === 0 && Number(status) !== 0) failed = 1;
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);

// tally.mjs RESULTS STATUS: prints each failed test with the beginning of its reason, then
// "N passed, N failed, N skipped", from vitest's JSON report; ends with 0 only if nothing
// failed and something passed.
import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

const REASON_LINES = 6;
const [path, status] = process.argv.slice(2);
let passed = 0;
let failed = 0;
let skipped = 0;

function tellFailure(file, name, messages) {
    const where = join(basename(dirname(file.name)), basename(file.name));
    const reason = messages.join('\n').split('\n').slice(0, REASON_LINES);
    console.log(`FAILED  ${where}: ${name}`);
    for (const line of reason) console.log(`        ${line}`);
}

if (existsSync(path)) {
    const report = JSON.parse(readFileSync(path, 'utf8'));
    passed = report.numPassedTests;
    failed = report.numFailedTests;
    for (const file of report.testResults) {
        const bad = file.assertionResults.filter((t) => t.status === 'failed');
        for (const t of bad) tellFailure(file, t.fullName, t.failureMessages);
        // A file whose preparation failed has no failed test; it counts as one.
        if (file.status === 'failed' && bad.length === 0) {
            tellFailure(file, 'its preparation', [file.message ?? '']);
            failed++;
        }
    }
    skipped = report.numPendingTests + report.numTodoTests;
}
// A file that cannot even be loaded, or a crash of the runner, has no failed test.
if (failed === 0 && Number(status) !== 0) failed = 1;
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);

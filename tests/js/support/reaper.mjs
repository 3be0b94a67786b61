// Cleans up after a test process that ended without doing so. It reads lines
// (`+pid N`, `-pid N`, `+dir PATH`, `-dir PATH`) from its standard input; at end of
// input, that is when the test process is gone, it kills the processes still listed
// and removes the folders.
import { rmSync } from 'node:fs';
import { createInterface } from 'node:readline';

const pids = new Set();
const dirs = new Set();

for await (const line of createInterface({ input: process.stdin })) {
    const [verb, ...rest] = line.split(' ');
    const arg = rest.join(' ');
    if (verb === '+pid') pids.add(Number(arg));
    else if (verb === '-pid') pids.delete(Number(arg));
    else if (verb === '+dir') dirs.add(arg);
    else if (verb === '-dir') dirs.delete(arg);
}

for (const pid of pids) {
    try {
        // Postgres takes QUIT as "stop at once, with all children".
        process.kill(pid, 'SIGQUIT');
    } catch {
        pids.delete(pid);
    }
}
if (pids.size > 0) await new Promise((done) => setTimeout(done, 1500));
for (const pid of pids) {
    try {
        process.kill(pid, 'SIGKILL');
    } catch {
        // gone by itself
    }
}
for (const dir of dirs) rmSync(dir, { recursive: true, force: true, maxRetries: 5 });

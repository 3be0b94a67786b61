// The answer worker of examples/qa, as a process.
import { spawn, type ChildProcess } from 'node:child_process';
import { dirname, join } from 'node:path';
import { coulombBin } from './coulomb.js';
import { exitOf, trackPid, until, untrackPid } from './process.js';

export const workerPath = (): string => join(dirname(coulombBin()), 'examples/qa/qa-worker');

export class QaWorker {
    log = '';
    private constructor(private readonly child: ChildProcess) {}

    /** `tokenMs`: the pause between two tokens. */
    static spawn(databaseUrl: string, tokenMs: number): QaWorker {
        const child = spawn(workerPath(), [], {
            env: { PATH: process.env.PATH, DATABASE_URL: databaseUrl, QA_TOKEN_MS: String(tokenMs) },
            stdio: ['ignore', 'pipe', 'pipe'],
        });
        trackPid(child.pid!);
        const worker = new QaWorker(child);
        for (const stream of [child.stdout!, child.stderr!]) {
            stream.setEncoding('utf8');
            stream.on('data', (text: string) => (worker.log += text));
        }
        return worker;
    }

    static async start(databaseUrl: string, tokenMs: number): Promise<QaWorker> {
        const worker = QaWorker.spawn(databaseUrl, tokenMs);
        await worker.ready();
        return worker;
    }

    async ready(): Promise<void> {
        await until('the worker to be ready', () => this.log.includes('event=worker.ready'));
    }

    async end(signal: NodeJS.Signals): Promise<number | string> {
        this.child.kill(signal);
        const code = await exitOf(this.child);
        untrackPid(this.child.pid!);
        return code;
    }
}

// A stream of libcoulomb as a process (tests/support/programs/stream_tail.c), with everything that it
// told folded into rows. With every message it is asserted that the stream has neither duplicates nor
// holes: no insert of a key that is there, no update or delete of one that is not.
import { spawn, type ChildProcess } from 'node:child_process';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { coulombBin } from './coulomb.js';
import { exitOf, Hopeless, trackPid, until, untrackPid } from './process.js';

export interface Told {
    kind: string;
    key?: string;
    value?: Record<string, string | null>;
    lsn?: string;
    pos?: number;
    txid?: number;
    code?: string;
    status?: number;
    message?: string;
}

export class StreamTail {
    readonly rows = new Map<string, Record<string, string | null>>();
    readonly told: Told[] = [];
    readonly wrong: string[] = [];
    log = '';
    refetches = 0;
    upToDates = 0;
    private readonly child: ChildProcess;
    /** Strict: an insert of a key that is there is wrong. Not so where subsets overlap the log. */
    constructor(url: string, table: string, options: string[] = [], private readonly strict = true) {
        // STREAM_TAIL names one of another build, with a sanitizer for instance.
        const program = process.env.STREAM_TAIL ?? join(dirname(coulombBin()), 'tests', 'stream_tail');
        this.child = spawn(program, [url, table, ...options], { stdio: ['pipe', 'pipe', 'pipe'] });
        trackPid(this.child.pid!);
        this.child.stderr!.on('data', (text) => {
            this.log = (this.log + text).slice(-100_000);
        });
        createInterface({ input: this.child.stdout! }).on('line', (line) => this.take(JSON.parse(line)));
    }

    private take(m: Told): void {
        if (this.told.push(m) > 300_000) this.told.splice(0, 100_000);
        if (m.kind === 'must-refetch') {
            this.refetches++;
            this.rows.clear();
        } else if (m.kind === 'up-to-date') {
            this.upToDates++;
        } else if (m.kind === 'insert') {
            if (this.strict && this.rows.has(m.key!)) this.wrong.push(`second insert of ${m.key}`);
            this.rows.set(m.key!, { ...m.value! });
        } else if (m.kind === 'update') {
            const row = this.rows.get(m.key!);
            if (row) Object.assign(row, m.value!);
            else if (this.strict) this.wrong.push(`update of ${m.key}, which is not there`);
        } else if (m.kind === 'delete') {
            if (!this.rows.delete(m.key!) && this.strict)
                this.wrong.push(`delete of ${m.key}, which is not there`);
        } else if (m.kind === 'error') {
            this.wrong.push(`error ${m.code}: ${m.message}`);
        }
    }

    say(command: string): void {
        this.child.stdin!.write(command + '\n');
    }

    sorted(key = 'id'): Record<string, string | null>[] {
        return [...this.rows.values()].sort((a, b) => Number(a[key]) - Number(b[key]));
    }

    async until(what: string, check: () => boolean, timeoutMs = 30_000): Promise<void> {
        await until(`${what} (libcoulomb)`, () => {
            if (this.wrong.length > 0) throw new Hopeless(`${this.wrong[0]}\n${this.log.slice(-3000)}`);
            if (this.child.exitCode !== null || this.child.signalCode !== null)
                throw new Hopeless(`stream_tail ended: ${this.child.exitCode}\n${this.log.slice(-3000)}`);
            return check();
        }, timeoutMs);
    }

    /** Ends it; gives its exit code. */
    async stop(): Promise<number | string> {
        const exit = exitOf(this.child);
        this.child.stdin!.end();
        const code = await exit;
        untrackPid(this.child.pid!);
        return code;
    }
}

// One transaction larger than any memory that the server may use: it streams through, and
// readers see all of it or nothing. LARGE_ROWS says how many rows (make soak: 5 million);
// LARGE_MIB bounds the server's resident memory.
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { exchange, query } from '../support/http.js';
import { sleep, until } from '../support/process.js';
import { useSuite } from '../support/suite.js';

const ROWS = Number(process.env.LARGE_ROWS ?? 300_000);
const MIB = Number(process.env.LARGE_MIB ?? 64);
const TIMEOUT_MS = 120_000 + ROWS / 5;

const suite = useSuite('large_transaction', {
    setup: 'create table many(id int primary key, v text, n bigint)',
});

/** Counts a shape's rows without keeping them. */
class Counter {
    rows = 0;
    sum = 0n;
    views: number[] = [];
    failure: Error | undefined;
    private offset = '-1';
    private handle: string | undefined;
    private cursor: string | undefined;
    private live = false;
    private stopped = false;
    readonly done: Promise<void>;

    constructor(private readonly follow: boolean, private readonly columns?: string) {
        this.done = this.loop().catch((error) => {
            this.failure = error as Error;
        });
    }

    async stop(): Promise<void> {
        this.stopped = true;
        await this.done;
    }

    private async loop(): Promise<void> {
        while (!this.stopped) {
            await this.step();
            if (this.views.length > 0 && !this.follow) return;
        }
    }

    private async step(): Promise<void> {
        const { offset, handle } = this;
        const live = this.live ? { live: 'true', cursor: this.cursor } : {};
        const reply = await exchange(suite.server.url,
            `/v1/shape?${query({ table: 'many', columns: this.columns, offset, handle, ...live })}`);
        if (reply.status === 503) return await sleep(50);
        if (reply.status !== 200) throw new Error(`status ${reply.status}: ${reply.text.slice(0, 200)}`);
        this.count(reply.text);
        this.offset = reply.headers['electric-offset'];
        this.handle = reply.headers['electric-handle'];
        this.cursor = reply.headers['electric-cursor'];
        this.live = reply.headers['electric-up-to-date'] !== undefined;
        if (!this.live) return;
        this.views.push(this.rows);
        if (this.rows !== 0 && this.rows !== ROWS) {
            throw new Error(`a view of ${this.rows} of ${ROWS} rows`);
        }
    }

    private count(body: string): void {
        let sum = 0;
        for (const [, id] of body.matchAll(/"value":\{"id":"(\d+)"/g)) {
            this.rows++;
            sum += Number(id);
        }
        this.sum += BigInt(sum);
    }
}

function residentPeakKib(): number {
    const status = readFileSync(`/proc/${suite.server.pid}/status`, 'utf8');
    return Number(/VmHWM:\s*(\d+)/.exec(status)![1]);
}

test(`a transaction of ${ROWS} rows is seen whole or not at all, within ${MIB} MiB`, async () => {
    const follower = new Counter(true);
    await until('the empty table', () => follower.views.length > 0);
    const before = residentPeakKib();
    const start = Date.now();
    let committed = false;
    const insert = suite.db.sql(`insert into many
        select i, 'value of row ' || i, i * 7919::bigint from generate_series(1, ${ROWS}) i`)
        .then(() => (committed = true));
    const late: Counter[] = [];
    const all = (): boolean => follower.views.at(-1) === ROWS;
    // Others come while it is on its way, some with a shape and a snapshot of their own.
    while (!all() && follower.failure === undefined && Date.now() - start < TIMEOUT_MS) {
        if (late.length < 40 && late.every((r) => r.views.length > 0 || r.failure)) {
            late.push(new Counter(false, [undefined, 'id,v', 'id,n', 'id'][late.length % 4]));
        }
        await sleep(Math.min(1000, ROWS / 1000));
    }
    await insert;
    const tookMs = Date.now() - start;
    for (const reader of late) await reader.done;
    await follower.stop();
    for (const reader of [follower, ...late]) if (reader.failure) throw reader.failure;
    expect(committed).toBe(true);
    expect(follower.rows).toBe(ROWS);
    expect(follower.sum).toBe((BigInt(ROWS) * BigInt(ROWS + 1)) / 2n);
    const peak = residentPeakKib();
    process.stderr.write(
        `large: ${ROWS} rows in ${(tookMs / 1000).toFixed(1)} s, at most ` +
            `${(peak / 1024).toFixed(0)} MiB resident (${(before / 1024).toFixed(0)} before), ` +
            `${late.length} readers came meanwhile, ` +
            `${late.filter((r) => r.rows === ROWS).length} of them saw it\n`);
    expect(peak / 1024).toBeLessThan(MIB);
}, TIMEOUT_MS + 60_000);

// A small client that follows a shape exactly as the protocol asks of clients and asserts,
// with every message, what a server owes them: no insert of a key that is present, no
// update or delete of one that is absent, entries in ascending order, an offset that is
// that of the last entry, a handle that changes only through a 409, a final up-to-date.
import { exchange, OpenResponse, query, type Reply } from './http.js';
import type { Params } from './coulomb.js';
import { sleep } from './process.js';
import { BrokenPromise, type Recorder } from './recorder.js';

export type Row = Record<string, string | null>;

export interface Change {
    key: string;
    value: Row;
    old_value?: Row;
    headers: Record<string, any>;
}

export class ProtocolViolation extends Error {}

export interface FollowerOptions {
    /** Reads live data as an event stream. */
    sse?: boolean;
    /** Called with every change message, in order. */
    onChange?: (change: Change) => void;
    /** The key columns; enables checks of minimal updates. */
    keyColumns?: string[];
    /** Remembers what was served, for all clients of a test. */
    recorder?: Recorder;
    /** The server is made to fail: what it answers with 500 is asked again. */
    failing?: boolean;
}

export class Follower {
    readonly rows = new Map<string, Row>();
    handle: string | undefined;
    offset = '-1';
    schema: Record<string, any> = {};
    upToDate = false;
    /** Number of refetches that a 409 asked for. */
    refetches = 0;
    requests = 0;
    /** Answers 500, with `failing`. */
    errors = 0;
    readonly handles = new Set<string>();
    private cursor = '';
    private expired: string | undefined;
    private lastEntry: [bigint, bigint] = [0n, -1n];
    private stopped = false;
    private readonly abort = new AbortController();
    private running: Promise<void> | undefined;
    private snapshotDone = false;
    private movedFrom: string | undefined;
    failure: Error | undefined;

    /** `base` gives the server's address at each request, as it may move. */
    constructor(
        private readonly base: () => string,
        readonly params: Params,
        private readonly options: FollowerOptions = {},
    ) {}

    /** Follows until `stop`; transport errors and 503s are retried. */
    start(): this {
        this.running = this.loop().catch((error) => {
            if (!this.stopped) this.failure = error as Error;
        });
        return this;
    }

    async stop(): Promise<void> {
        this.stopped = true;
        this.abort.abort();
        await this.running;
    }

    private async loop(): Promise<void> {
        while (!this.stopped) {
            try {
                await this.step();
            } catch (error) {
                if (this.stopped) return;
                if (error instanceof ProtocolViolation || error instanceof BrokenPromise) throw error;
                // The server is being restarted, or cut the connection in a body. Nothing
                // of a torn body was applied.
                await sleep(20);
            }
        }
    }

    /** One request and its consequences. */
    async step(): Promise<void> {
        if (this.upToDate && this.options.sse) return await this.stream();
        const live = this.upToDate;
        const asked = { offset: this.offset, handle: this.handle, live, at: performance.now() };
        const reply = await exchange(
            this.base(),
            `/v1/shape?${query({
                ...this.params,
                offset: this.offset,
                handle: this.handle,
                live: live ? 'true' : undefined,
                cursor: live ? this.cursor : undefined,
                expired_handle: this.expired,
            })}`,
            { signal: this.abort.signal, timeoutMs: 45_000 },
        );
        this.requests++;
        this.options.recorder?.reply(this.params, asked, reply);
        await this.take(reply, live);
    }

    private async take(reply: Reply, live: boolean): Promise<void> {
        if (reply.status === 503) {
            if (!reply.headers['retry-after']) fail('a 503 without retry-after', reply.text);
            await sleep(50);
            return;
        }
        if (reply.status === 409) return this.refetch(reply);
        if (reply.status === 500 && this.options.failing) {
            if (!(reply.json().message ?? reply.json().error)) fail('a 500 without a word', reply.text);
            this.errors++;
            await sleep(50);
            return;
        }
        if (reply.status !== 200) fail(`status ${reply.status}`, reply.text);
        this.checkHeaders(reply.headers, live);
        const messages = reply.json();
        if (!Array.isArray(messages)) fail('the body is no array', reply.text);
        const before = this.lastEntry;
        this.apply(messages, live);
        const offset = reply.headers['electric-offset'];
        this.checkOffset(offset, before);
        this.offset = offset;
        const final = messages.at(-1)?.headers?.control === 'up-to-date';
        const header = reply.headers['electric-up-to-date'] !== undefined;
        if (final !== header) fail('header and body disagree about up-to-date', reply.text);
        if (live && messages.length === 0) fail('a live answer without messages', offset);
        this.upToDate = final;
    }

    private checkHeaders(headers: Record<string, string>, live: boolean): void {
        for (const name of ['electric-handle', 'electric-offset', 'etag', 'cache-control']) {
            if (headers[name] === undefined) fail(`no header ${name}`, JSON.stringify(headers));
        }
        const handle = headers['electric-handle'];
        // With -1 the handle sent is ignored: the shape it named may be gone again.
        if (this.handle !== undefined && handle !== this.handle && this.offset !== '-1') {
            fail(`the handle changed without a 409`, `${this.handle} → ${handle}`);
        }
        if (handle === this.expired) fail('an expired handle came back', handle);
        this.handle = handle;
        this.handles.add(handle);
        if (live) {
            const cursor = headers['electric-cursor'];
            if (!/^\d+$/.test(cursor ?? '')) fail('no cursor', JSON.stringify(headers));
            if (cursor === this.cursor) fail('the cursor sent came back', cursor);
            this.cursor = cursor;
        } else {
            if (headers['electric-schema'] === undefined) fail('no schema', JSON.stringify(headers));
            this.schema = JSON.parse(headers['electric-schema']);
        }
    }

    /** The new offset follows the old one and is that of the last entry, if any came. */
    private checkOffset(offset: string, before: [bigint, bigint]): void {
        if (!/^(\d+_(\d+|inf))$/.test(offset)) fail('malformed offset', offset);
        if (compareOffsets(offset, this.offset) < 0) {
            fail('the offset went back', `${this.offset} → ${offset}`);
        }
        const moved = this.lastEntry[0] !== before[0] || this.lastEntry[1] !== before[1];
        if (moved && offset !== this.lastEntry.join('_')) {
            fail('the offset is not that of the last entry', `${offset}, ${this.lastEntry.join('_')}`);
        }
    }

    private refetch(reply: Reply): void {
        const body = reply.json();
        if (body?.length !== 1 || body[0]?.headers?.control !== 'must-refetch') {
            fail('a 409 without must-refetch', reply.text);
        }
        const handle = reply.headers['electric-handle'];
        if (handle !== undefined && handle === this.handle) {
            fail('a 409 that names the same handle', handle);
        }
        this.refetches++;
        this.expired = this.handle ?? this.expired;
        this.handle = handle;
        this.offset = '-1';
        this.cursor = '';
        this.upToDate = false;
        this.lastEntry = [0n, -1n];
        this.snapshotDone = false;
        this.movedFrom = undefined;
        this.rows.clear();
    }

    private async stream(): Promise<void> {
        const at = performance.now();
        const stream = new OpenResponse(
            this.base(),
            `/v1/shape?${query({
                ...this.params,
                offset: this.offset,
                handle: this.handle,
                live: 'true',
                live_sse: 'true',
                experimental_live_sse: 'true',
                cursor: this.cursor,
            })}`,
            { signal: this.abort.signal, headers: { accept: 'text/event-stream' } },
        );
        await stream.opened;
        this.requests++;
        if (stream.status !== 200) {
            await stream.ended;
            const reply: Reply = {
                status: stream.status, headers: stream.headers, text: stream.text,
                rawHeaders: [], tookMs: 0, json: () => JSON.parse(stream.text),
            };
            const asked = { offset: this.offset, handle: this.handle, live: true, at };
            this.options.recorder?.reply(this.params, asked, reply);
            await this.take(reply, true);
            return;
        }
        const { headers } = stream;
        if (headers['content-type'] !== 'text/event-stream') fail('content type', stream.text);
        this.checkHeaders(headers, true);
        this.options.recorder?.alive(this.params, headers['electric-handle'], at);
        let taken = 0;
        let batch: any[] = [];
        while (!this.stopped) {
            const closed = stream.closedAtMs !== null;
            const events = stream.events;
            for (const event of events.slice(taken)) {
                if (typeof event === 'string') continue;
                batch.push(event);
                if (event.headers.control !== 'up-to-date') continue;
                this.applyStreamed(batch);
                batch = [];
            }
            taken = events.length;
            if (closed) break;
            await Promise.race([stream.ended, sleep(10)]);
        }
        stream.leave();
    }

    // An event-stream client takes its offset from the up-to-date message, so that a
    // reconnect may repeat the later entries of that transaction, identically.
    private applyStreamed(batch: any[]): void {
        const lsn = batch.at(-1).headers.global_last_seen_lsn;
        if (!/^\d+$/.test(lsn ?? '')) fail('an up-to-date without LSN', JSON.stringify(batch));
        const fresh = batch.filter((message) => {
            const { lsn: tx, op_position: op } = message.headers;
            return tx === undefined || compareEntry([BigInt(tx), BigInt(op)], this.lastEntry) > 0;
        });
        this.apply(fresh, true);
        const next = `${lsn}_0`;
        if (compareOffsets(next, this.offset) > 0) this.offset = next;
    }

    private apply(messages: any[], live: boolean): void {
        messages.forEach((message, i) => {
            const { headers } = message;
            if (headers?.operation) {
                this.applyChange(message as Change);
            } else if (headers?.control === 'up-to-date') {
                if (i !== messages.length - 1) fail('up-to-date is not last', JSON.stringify(message));
                if (!/^\d+$/.test(headers.global_last_seen_lsn ?? '')) {
                    fail('up-to-date without LSN', JSON.stringify(message));
                }
            } else if (headers?.control === 'snapshot-end') {
                this.checkSnapshotEnd(headers, live);
            } else {
                fail('unknown message', JSON.stringify(message));
            }
        });
        // A chunk may end between the halves, an up-to-date log may not.
        const final = messages.at(-1)?.headers?.control === 'up-to-date';
        if (final && this.movedFrom !== undefined) {
            fail('half of a key change', `${this.movedFrom}, asked at ${this.offset} of ` +
                `${this.handle}${live ? ' live' : ''}: ${JSON.stringify(messages.slice(-2))}`);
        }
    }

    private checkSnapshotEnd(headers: any, live: boolean): void {
        if (live || this.snapshotDone) fail('snapshot-end twice or live', JSON.stringify(headers));
        this.snapshotDone = true;
        const { xmin, xmax, xip_list: xip } = headers;
        const fine = [xmin, xmax, ...xip].every((x) => typeof x === 'string' && /^\d+$/.test(x)) &&
            BigInt(xmin) <= BigInt(xmax);
        if (!fine) fail('malformed snapshot-end', JSON.stringify(headers));
    }

    private applyChange(change: Change): void {
        const { key, value, headers } = change;
        if (headers.lsn === undefined) {
            if (this.snapshotDone) fail('a snapshot row after snapshot-end', JSON.stringify(change));
            if (headers.operation !== 'insert') fail('a snapshot of changes', JSON.stringify(change));
        } else {
            this.checkEntry(change);
        }
        switch (headers.operation) {
            case 'insert':
                if (this.rows.has(key)) fail('insert of a key that is present', JSON.stringify(change));
                this.checkMove(change);
                this.rows.set(key, { ...value });
                break;
            case 'update':
                this.applyUpdate(change);
                break;
            case 'delete':
                if (!this.rows.delete(key)) fail('delete of an absent key', JSON.stringify(change));
                if (headers.key_change_to !== undefined) this.movedFrom = key;
                break;
            default:
                fail('unknown operation', JSON.stringify(change));
        }
        this.options.onChange?.(change);
    }

    private checkEntry(change: Change): void {
        const { lsn, op_position: op, txids } = change.headers;
        const fine = /^\d+$/.test(lsn) && Number.isInteger(op) && Array.isArray(txids) &&
            txids.length === 1 && Number.isInteger(txids[0]);
        if (!fine) fail('malformed entry', JSON.stringify(change));
        const here: [bigint, bigint] = [BigInt(lsn), BigInt(op)];
        if (compareEntry(here, this.lastEntry) <= 0) {
            fail(`an entry at or before ${this.lastEntry.join('_')}`, JSON.stringify(change));
        }
        this.lastEntry = here;
    }

    // A key change is a delete that names the new key, then the insert that names the old.
    private checkMove(change: Change): void {
        const from = change.headers.key_change_from;
        if (from !== this.movedFrom) {
            fail(`key_change_from after ${this.movedFrom}`, JSON.stringify(change));
        }
        this.movedFrom = undefined;
    }

    private applyUpdate(change: Change): void {
        const row = this.rows.get(change.key);
        if (!row) fail('update of an absent key', JSON.stringify(change));
        const full = this.params.replica === 'full';
        for (const [name, value] of Object.entries(change.value)) {
            const isKey = this.options.keyColumns?.includes(name) ?? true;
            if (!full && !isKey && row[name] === value) {
                fail(`an update that repeats column ${name}`, JSON.stringify(change));
            }
        }
        for (const [name, value] of Object.entries(change.old_value ?? {})) {
            if (row[name] !== value) fail(`a wrong old value of ${name}`, JSON.stringify(change));
        }
        Object.assign(row, change.value);
    }
}

function fail(what: string, detail: string): never {
    throw new ProtocolViolation(`${what}: ${detail.slice(0, 1000)}`);
}

function compareEntry(a: [bigint, bigint], b: [bigint, bigint]): number {
    if (a[0] !== b[0]) return a[0] < b[0] ? -1 : 1;
    return a[1] < b[1] ? -1 : a[1] > b[1] ? 1 : 0;
}

/** Order of offset texts: `-1` first, `inf` after every position. */
export function compareOffsets(a: string, b: string): number {
    const parse = (text: string): [bigint, bigint] => {
        if (text === '-1') return [-1n, 0n];
        const [tx, op] = text.split('_');
        return [BigInt(tx), op === 'inf' ? 1n << 70n : BigInt(op)];
    };
    return compareEntry(parse(a), parse(b));
}

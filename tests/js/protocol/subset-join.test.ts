// Where a subset and the log meet: the official client, which drops what it gets again by the
// subset's view, has every row once and none too old, whatever commits meanwhile.
import { ShapeStream, isChangeMessage } from '@electric-sql/client';
import { afterEach, describe, expect, test } from 'vitest';
import { useOwnCluster } from '../support/own-cluster.js';
import { connect } from '../support/postgres.js';
import { sleep, until } from '../support/process.js';
import { nextEntries, readToEnd } from '../support/shapes.js';
import { useSuite } from '../support/suite.js';

const suite = useSuite('subset_join', {
    setup: `
        create sequence vers;
        create table parts(id int primary key, part int not null, ver int8 not null, pad text);
        insert into parts select i, i % 10, nextval('vers'), 'p' from generate_series(1, 300) i;
    `,
});

/** Offsets as numbers that can be compared. */
function rank(offset: string): bigint {
    if (offset === '-1' || offset === 'now') return -1n;
    const [tx, op] = offset.split('_');
    return BigInt(tx) * 2n ** 64n + (op === 'inf' ? 2n ** 63n : BigInt(op));
}

/** What a client shows its user, and everything that should not have happened to it.
 *
 * The client may itself go back in the log: a subset that it asks for while it still works on an
 * answer of the log is asked for at the offset before that answer, which it then takes for its own
 * again. Entries come once more then, from the older to the newer, and nothing is lost; `returned`
 * counts it. */
class Collection {
    readonly rows = new Map<string, any>();
    readonly wrong: string[] = [];
    subsetRows = 0;
    changes = 0;
    upToDate = false;
    readonly stream: ShapeStream<any>;
    private readonly abort = new AbortController();
    returned = 0;
    private readonly seen = new Set<string>();
    private answered = -1n;
    private delivered = -1n;
    private events = false;

    constructor(url: string, options: { method?: 'GET' | 'POST'; offset?: string; liveSse?: boolean }) {
        this.sse = options.liveSse ?? false;
        this.stream = new ShapeStream({
            url, params: { table: 'parts' }, log: 'changes_only', warnOnHttp: false,
            offset: options.offset as any, subsetMethod: options.method, liveSse: options.liveSse,
            signal: this.abort.signal,
            backoffOptions: { initialDelay: 20, maxDelay: 250, multiplier: 1.5 },
            onError: (error) => void this.wrong.push(String(error)),
            fetchClient: async (input, init) => {
                const asked = new URL(String(input)).searchParams;
                const isStream = ![...asked.keys()].some((k) => k.startsWith('subset__')) &&
                    init?.method !== 'POST';
                if (isStream && rank(asked.get('offset')!) < this.delivered) this.returned++;
                const response = await fetch(input, init);
                const offset = response.headers.get('electric-offset');
                if (isStream && offset) this.answered = rank(offset);
                if (isStream) this.events = response.headers.get('content-type')?.includes('event-stream') ?? false;
                return response;
            },
        });
        this.stream.subscribe((messages) => {
            const last = (messages.at(-1)?.headers ?? {}) as any;
            if (last.control !== 'subset-end') this.delivered = this.answered;
            if (last.control === 'up-to-date' && this.events) {
                this.delivered = rank(`${last.global_last_seen_lsn}_0`);
            }
            for (const message of messages) {
                if (isChangeMessage(message)) this.apply(message);
                else if (message.headers.control === 'must-refetch') this.wrong.push('must-refetch');
            }
        });
    }

    private apply(message: any): void {
        const { key, value, headers } = message;
        const known = this.rows.get(key);
        const txt = JSON.stringify(message, (_k, v) => (typeof v === 'bigint' ? String(v) : v));
        if ('snapshot_mark' in headers) {
            this.subsetRows++;
            if (known && known.ver > value.ver) this.wrong.push(`older than known: ${txt}`);
            this.rows.set(key, value);
            return;
        }
        // It continues an event stream at <lsn>_0, which is amid that transaction.
        const position = `${headers.lsn}_${headers.op_position}`;
        if (this.sse && this.seen.has(position)) return;
        this.seen.add(position);
        this.changes++;
        if (headers.operation === 'delete') {
            this.rows.delete(key);
        } else if (headers.operation === 'insert') {
            if (known) this.wrong.push(`inserted again (${known.ver}): ${txt}`);
            this.rows.set(key, value);
        } else if (known) {
            if (value.ver !== undefined && value.ver <= known.ver) {
                this.wrong.push(`seen again (${known.ver}): ${txt}`);
            }
            this.rows.set(key, { ...known, ...value });
        }
    }

    sorted(): any[] {
        return [...this.rows.values()].sort((a, b) => a.id - b.id);
    }

    stop(): void {
        this.stream.unsubscribeAll();
        this.abort.abort();
    }
}

const open: Collection[] = [];
afterEach(() => {
    for (const one of open.splice(0)) one.stop();
});

function collection(options: ConstructorParameters<typeof Collection>[1] = {}): Collection {
    const made = new Collection(suite.server.shapeUrl, options);
    open.push(made);
    return made;
}

/** Writers on rows of their own each; stop() ends them. Commits vary in how they wait. */
async function writers(count: number): Promise<{ stop: () => Promise<number> }> {
    let going = true;
    let commits = 0;
    const run = async (n: number): Promise<void> => {
        const session = await connect(suite.db.cluster, suite.db.name);
        await session.query(`set synchronous_commit = ${n % 2 ? 'off' : 'on'}`);
        const ids = Array.from({ length: 300 }, (_, i) => i + 1).filter((i) => i % count === n);
        for (let turn = 0; going; turn++) {
            const id = ids[Math.floor(Math.random() * ids.length)];
            const other = ids[Math.floor(Math.random() * ids.length)];
            const what = turn % 5;
            if (what === 0) {
                await session.query(`begin; delete from parts where id = ${id};
                    insert into parts values (${id}, ${turn % 10}, nextval('vers'), 'again'); commit`);
            } else if (what === 1) {
                await session.query(`delete from parts where id = ${id}`);
                await session.query(`insert into parts values (${id}, ${turn % 10}, nextval('vers'), 'new')`);
            } else {
                await session.query(`begin;
                    update parts set ver = nextval('vers'), part = ${turn % 10} where id = ${id};
                    update parts set ver = nextval('vers'), pad = 't${turn}' where id = ${other};
                    ${turn % 7 === 0 ? 'rollback' : 'commit'}`);
            }
            commits++;
        }
        await session.end();
    };
    const all = Array.from({ length: count }, (_, n) => run(n));
    return {
        stop: async () => {
            going = false;
            await Promise.all(all);
            return commits;
        },
    };
}

const truth = async (): Promise<any[]> =>
    (await suite.db.sql('select id, part, ver::text, pad from parts order by id'))
        .map((r) => ({ id: Number(r.id), part: Number(r.part), ver: BigInt(r.ver), pad: r.pad }));

async function converges(c: Collection): Promise<void> {
    const wanted = await truth();
    const text = (rows: any[]): string =>
        JSON.stringify(rows.map((r) => [r.id, r.part, String(r.ver), r.pad]));
    await until('the rows to be those of the table', () => text(c.sorted()) === text(wanted), 15_000)
        .catch(() => expect(c.sorted()).toEqual(wanted));
}

const ROUNDS = Number(process.env.SUBSET_ROUNDS ?? 1);

describe('amid writers', () => {
    for (const options of [
        { method: 'GET' }, { method: 'POST', offset: 'now' }, { method: 'GET', offset: 'now', liveSse: true },
    ] as const) {
        test(`${JSON.stringify(options)}: each row once, none too old`, async () => {
            let straight = 0;
            for (let round = 0; round < ROUNDS || (straight === 0 && round < 8); round++) {
                const busy = await writers(4);
                const c = collection(options);
                // Parts change, so that a row may be in none or in two of these; ids don't.
                if (options.offset === undefined) await until('the log to be read', () => c.stream.isUpToDate);
                for (let i = 0; i < 10; i++) {
                    await c.stream.requestSnapshot({ where: 'part = $1', params: { 1: String(i) } });
                    await sleep(i % 3 * 10);
                }
                for (let i = 0; i < 10; i++) {
                    await c.stream.requestSnapshot({
                        where: 'id > $1 AND id <= $2',
                        params: { 1: String(i * 30), 2: String(i * 30 + 30) },
                        orderBy: 'id', limit: 30,
                    });
                }
                await sleep(200);
                const commits = await busy.stop();
                expect(commits).toBeGreaterThan(20);
                await converges(c);
                if (c.returned === 0) expect(c.wrong).toEqual([]);
                expect(c.subsetRows).toBeGreaterThan(300);
                expect(c.changes).toBeGreaterThan(0);
                c.stop();
                straight += Number(c.returned === 0);
            }
            // Otherwise nothing was tested but that it converges.
            expect(straight).toBeGreaterThan(0);
        }, 60_000 + ROUNDS * 10_000);
    }

    test('two subsets at a time', async () => {
        const busy = await writers(3);
        const c = collection({ method: 'POST' });
        for (let i = 0; i < 10; i++) {
            await Promise.all([
                c.stream.requestSnapshot({ where: `id <= ${i * 30}`, orderBy: 'id DESC', limit: 100 }),
                c.stream.requestSnapshot({ where: `id > ${i * 30}` }),
            ]);
        }
        await c.stream.requestSnapshot({ where: 'id > 0' });
        await busy.stop();
        await converges(c);
        // With two under way at once it can't be told whether the client went back by itself.
    });

    test('fetchSnapshot gives rows and leaves the stream where it is', async () => {
        const c = collection({ offset: 'now' });
        await c.stream.requestSnapshot({ where: 'id <= 10' });
        const { data, metadata } = await c.stream.fetchSnapshot({
            where: 'id > 290', orderBy: 'id', limit: 5, offset: 2,
        });
        expect(data.map((m) => Number((m.value as any).id))).toEqual([293, 294, 295, 296, 297]);
        expect(metadata.xip_list).toEqual([]);
        await suite.db.sql("update parts set ver = nextval('vers') where id in (5, 295)");
        await until('the change', () => c.changes === 2);
        expect(c.rows.size).toBe(10);
        expect(c.wrong).toEqual([]);
    });
});

describe('a transaction that is in the WAL and not yet to be seen', () => {
    const own = useOwnCluster('create table items(id int primary key, v text)', {
        settings: {
            synchronous_standby_names: 'nobody', synchronous_commit: 'local',
            wal_writer_delay: '10s',
        },
    });
    const shape = { table: 'items', log: 'changes_only' };

    test('is in the rows of whoever has read it in the log', async () => {
        await own.sql("truncate items; insert into items values (1, 'old')");
        const server = await own.start();
        await server.active();
        // The stream describes the table with its first change, which is looked into.
        const first = await readToEnd(server, shape);
        await own.sql("update items set v = 'older' where id = 1");
        await nextEntries(server, shape, first);
        const start = await readToEnd(server, shape);
        const session = await own.cluster.connect('postgres');
        await session.query('set synchronous_commit = on');
        const [{ pid }] = (await session.query('select pg_backend_pid() as pid')).rows;
        const commit = session.query("update items set v = 'new' where id = 1");
        commit.catch(() => undefined);
        const { reply } = await nextEntries(server, shape, start);
        const at = { ...shape, offset: reply.headers['electric-offset'], handle: start.handle };
        expect((await own.sql('select v from items'))[0].v).toBe('older');
        // It would be given the row as it was, and never hear of the change again.
        const refused = await server.shape({ ...at, subset__where: 'id = 1' });
        expect([refused.status, refused.headers['retry-after']]).toEqual([503, '10']);
        let answered = false;
        const asked = server.shape({ ...at, subset__where: 'id = 1' }).then((r) => {
            answered = true;
            return r;
        });
        await sleep(300);
        expect(answered).toBe(false);
        await own.sql(`select pg_cancel_backend(${pid})`);
        await commit;
        const subset = await asked;
        expect(subset.status).toBe(200);
        expect(subset.json().data[0].value.v).toBe('new');
        expect(subset.headers['electric-offset']).toBe(at.offset);
        await session.end();
    });

    test('nor written: database_lsn is behind the commit of all that the rows have', async () => {
        await own.sql("truncate items; insert into items values (1, 'old')");
        const server = await own.start();
        await server.active();
        const start = await readToEnd(server, shape);
        const session = await own.cluster.connect('postgres');
        await session.query('set synchronous_commit = off');
        await session.query("update items set v = 'new' where id = 1");
        const subset = await server.shape({
            ...shape, offset: start.offset, handle: start.handle, subset__where: 'id = 1',
        });
        const { data, metadata } = subset.json();
        expect(data[0].value.v).toBe('new');
        await own.sql('checkpoint');
        const { changes } = await nextEntries(server, shape, start);
        expect(changes[0].value.v).toBe('new');
        expect(BigInt(metadata.database_lsn)).toBeGreaterThan(BigInt(changes[0].headers.lsn));
        expect(changes[0].headers.txids[0]).toBeLessThan(Number(metadata.xmax));
        await session.end();
    });
});

describe('a transaction that is open', () => {
    test('is listed, and comes through the log when it commits', async () => {
        const c = collection({ offset: 'now' });
        const session = await suite.db.session();
        await session.query("begin; update parts set ver = nextval('vers'), pad = 'open' where id = 7");
        await suite.db.sql("update parts set ver = nextval('vers'), pad = 'done' where id = 8");
        const { metadata } = await c.stream.requestSnapshot({ where: 'id in (7, 8)' });
        const [{ xid }] = (await session.query('select pg_current_xact_id()::text as xid')).rows;
        expect(metadata.xip_list.map(String)).toEqual([xid]);
        expect([...c.rows.values()].map((r) => r.pad).sort()).not.toContain('open');
        expect([...c.rows.values()].map((r) => r.pad)).toContain('done');
        await session.query('commit');
        await until('the commit', () => [...c.rows.values()].some((r) => r.pad === 'open'));
        expect(c.wrong).toEqual([]);
    });
});

// The randomised oracle. Writers run random transactions while clients join and leave, the
// server is killed and restarted, its disk fails and Postgres goes away (disturb.ts); at the
// end of a round the writers pause, all faults are over, and every client must arrive at
// exactly the rows that SELECT gives. What was served at a handle and an offset must be
// served there again, in later rounds and by later lives of the server (recorder.ts).
//
// All decisions come from one seed, so that a failure names the seed that shows it again
// (up to the timing of processes).
import type pg from 'pg';
import { Shape, ShapeStream, type Row as ClientRow } from '@electric-sql/client';
import { Coulomb, type Params } from '../support/coulomb.js';
import { Follower, type Change, type Row } from '../support/follower.js';
import { query } from '../support/http.js';
import { IoFaults } from '../support/iofaults.js';
import { Cluster } from '../support/postgres.js';
import { Hopeless, sleep, until } from '../support/process.js';
import { Recorder } from '../support/recorder.js';
import { Database, serverEnv } from '../support/suite.js';
import { Disturber, WRITER } from './disturb.js';
import { Random } from './random.js';
import { columnsOf, pickShape, statement, tableOf, TABLES, truthOf } from './workload.js';

export interface OracleOptions {
    seed: number;
    rounds: number;
    /** Milliseconds that the writers work in each round. */
    roundMs?: number;
    log?: (line: string) => void;
}

/** Rows as comparable texts. */
function canonical(rows: Iterable<Row>, columns: string[]): string[] {
    const texts: string[] = [];
    for (const row of rows) texts.push(JSON.stringify(columns.map((c) => row[c] ?? null)));
    return texts.sort();
}

/** A client under test: our own follower or the real one. */
interface Client {
    label: string;
    params: Params;
    rows(): Iterable<Row>;
    /** It has everything up to some moment; without, rows of the next chunk may be missing. */
    upToDate(): boolean;
    failure(): Error | undefined;
    history: string[];
    stop(): Promise<void>;
}

const HISTORY = 400;
const CLIENTS = 16;
/** What was served before and is asked for again in each round. */
const REREAD = 12;
/** From the end of the faults until the server says that it is active. */
const RECOVERY_MS = 15_000;

function describeChange(change: Change): string {
    const { operation, lsn, op_position: op, txids } = change.headers;
    const value = JSON.stringify(change.value).slice(0, 200);
    return `${operation} ${change.key} at ${lsn ?? 'snapshot'}_${op ?? ''} xid ${txids ?? ''} ${value}`;
}

function remember(history: string[], line: string): void {
    history.push(line);
    if (history.length > HISTORY) history.shift();
}

export class Oracle {
    private readonly random: Random;
    private cluster!: Cluster;
    private db!: Database;
    private server!: Coulomb;
    private clients: Client[] = [];
    private writing = false;
    private joined = 0;
    private readonly faults = new IoFaults();
    private readonly recorder = new Recorder();
    private disturber!: Disturber;
    private readonly shapes = new Set<string>();
    private readonly filtered: Params[] = [];
    private readonly counts = { transactions: 0, clients: 0, removed: 0 };

    constructor(private readonly options: OracleOptions) {
        this.random = new Random(options.seed);
    }

    async run(): Promise<void> {
        await this.begin();
        try {
            for (let round = 1; round <= this.options.rounds; round++) {
                try {
                    await this.round(round);
                } catch (error) {
                    const again = `ORACLE_SEED=${this.options.seed} ORACLE_ROUNDS=${round}`;
                    throw new Error(
                        `round ${round} of seed ${this.options.seed} (${again}), ` +
                            `${this.disturber.describe()}: ${(error as Error).message}\n--- server log\n${this.server.tail(30)}`,
                        { cause: error },
                    );
                }
            }
            this.options.log?.(this.summary());
        } finally {
            await this.end();
        }
    }

    private async begin(): Promise<void> {
        this.cluster = await Cluster.start({
            settings: { deadlock_timeout: '100ms', max_connections: 100 },
        });
        this.db = await Database.create('oracle', this.cluster);
        for (const table of TABLES) await this.db.sql(table.ddl);
        await this.seedRows();
        // Small chunks, so that catching up crosses many boundaries. The same in all lives of
        // the server: another size moves the ends of what wasn't durable before a crash.
        this.server = new Coulomb(serverEnv(this.db, {
            ELECTRIC_SHAPE_CHUNK_BYTES_THRESHOLD: this.random.pick(['20000', '20000', '60000']),
            ELECTRIC_LONG_POLL_TIMEOUT: '3000',
        }));
        const faults = this.faults.env(this.server.storageDir, this.cluster.port);
        Object.assign(this.server.env, faults);
        this.disturber = new Disturber(this.server, this.cluster, this.db, this.faults);
        await this.server.launch();
        await this.server.active();
    }

    private summary(): string {
        const list = (counts: Record<string, number>): string =>
            Object.entries(counts).map(([name, n]) => `${n} ${name}`).sort().join(', ') || 'none';
        return [
            `seed ${this.options.seed}: ${this.options.rounds} rounds`,
            `${this.counts.transactions} transactions`,
            `ends: ${list(this.disturber.ends)}`,
            `faults: ${list(this.disturber.faultsHit)}`,
            `${this.counts.clients} clients of ${this.shapes.size} shapes`,
            `${this.recorder.handleCount} handles, ${this.counts.removed} shapes deleted, ` +
                `${this.recorder.reread} answers read again`,
        ].join('; ');
    }

    private async seedRows(): Promise<void> {
        await this.db.sql(`
            insert into o_int select i, 'v' || i, i from generate_series(1, 120) i;
            insert into o_comp select 'b' || (i % 7), i, 'v' || i from generate_series(1, 60) i;
            insert into o_none select 'u' || i, 'v' || i, i from generate_series(1, 40) i;
            insert into o_text select 'k/' || i, repeat(md5(i::text), 100), i
                from generate_series(1, 30) i;
            insert into o_wide(id, a, b, e) select i, 'a' || i, repeat('b', i * 20), 'e'
                from generate_series(1, 60) i`);
    }

    private async end(): Promise<void> {
        for (const client of this.clients) await client.stop();
        this.faults.disarm();
        await this.server?.close();
        await this.cluster?.remove();
        this.faults.close();
    }

    private async round(round: number): Promise<void> {
        const { random } = this;
        const roundMs = this.options.roundMs ?? 350;
        this.writing = true;
        const writers = Promise.all([1, 2, 3].map((n) => this.write(random.fork(), n)));
        writers.catch(() => undefined);
        const actors = Promise.all([
            this.join(random.fork(), roundMs),
            this.disturber.disturb(random.fork(), roundMs),
            this.remove(random.fork(), roundMs),
        ]);
        actors.catch(() => undefined);
        await sleep(roundMs);
        await actors;
        this.writing = false;
        await writers;
        await this.disturber.recover();
        for (const table of TABLES) await this.db.sql(table.mark(round));
        await until('the server to be active after the faults', async () => {
            await this.disturber.recover();
            return (await this.server.get('/v1/health', { timeoutMs: 5_000 })).status === 200;
        }, RECOVERY_MS, 10);
        await this.compareAll(round);
        await this.rereadSome(random.fork());
        await this.leave();
    }

    // --- writers ---

    private async write(random: Random, writer: number): Promise<void> {
        let session: pg.Client | undefined;
        while (this.writing) {
            try {
                if (!session) {
                    session = await this.cluster.connect(this.db.name);
                    await session.query(`set application_name = '${WRITER}'`);
                }
                await this.transaction(session, random, writer);
                this.counts.transactions++;
            } catch (error) {
                const code = (error as { code?: string }).code ?? '';
                if (/^(23505|40P01|40001|55P03)$/.test(code)) {
                    await session!.query('rollback').catch(() => undefined);
                } else if (/^(57P0\d|08\w+|ECONN\w+|EPIPE)$/.test(code) || /terminated|ended|not queryable|connection/i.test(String(error))) {
                    // Postgres itself was restarted.
                    await session?.end().catch(() => undefined);
                    session = undefined;
                    await sleep(50);
                } else {
                    throw error;
                }
            }
        }
        await session?.end();
    }

    private async transaction(session: pg.Client, random: Random, writer: number): Promise<void> {
        if (random.chance(0.3)) {
            await session.query(statement(random, writer));
            return;
        }
        await session.query('begin');
        await this.statements(session, random, writer);
        if (random.chance(0.3)) {
            await session.query('savepoint s');
            await this.statements(session, random, writer);
            if (random.chance(0.5)) await session.query('rollback to savepoint s');
            else await session.query('release savepoint s');
            await this.statements(session, random, writer);
        }
        // Open transactions are what snapshots have to get right.
        if (random.chance(0.3)) await sleep(random.int(1, 60));
        await session.query(random.chance(0.8) ? 'commit' : 'rollback');
    }

    private async statements(session: pg.Client, random: Random, writer: number): Promise<void> {
        for (let n = random.int(1, 4); n > 0; n--) {
            await session.query(statement(random, writer));
        }
    }

    // --- clients ---

    private async join(random: Random, roundMs: number): Promise<void> {
        const end = Date.now() + roundMs;
        while (Date.now() < end) {
            if (this.clients.length < CLIENTS) this.addClient(random);
            await sleep(random.int(10, Math.round(roundMs / 4)));
        }
    }

    private addClient(random: Random): void {
        const params = pickShape(random, this.filtered);
        const kind = random.int(0, 9);
        this.joined++;
        this.counts.clients++;
        this.shapes.add(JSON.stringify(params));
        if (kind < 2) this.clients.push(this.realClient(params, kind === 0));
        else this.clients.push(this.ownClient(params, kind < 4));
    }

    /** Now and then a shape is deleted; its handle must never be served again. */
    private async remove(random: Random, roundMs: number): Promise<void> {
        if (!random.chance(0.15)) return;
        await sleep(random.int(0, roundMs));
        const served = this.recorder.promised().at(-1);
        if (!served) return;
        await this.server.get(`/v1/shape?${query({ table: served.params.table, handle: served.handle })}`,
            { method: 'DELETE', timeoutMs: 5_000 }).then(() => this.counts.removed++, () => undefined);
    }

    private ownClient(params: Params, sse: boolean): Client {
        const history: string[] = [];
        const follower = new Follower(() => this.server.url, params, {
            sse,
            keyColumns: tableOf(params).key,
            recorder: this.recorder,
            failing: true,
            onChange: (change) => remember(history, describeChange(change)),
        }).start();
        return {
            label: `follower ${this.joined}${sse ? ' (sse)' : ''} of ${JSON.stringify(params)}`,
            params,
            rows: () => follower.rows.values(),
            upToDate: () => follower.upToDate,
            failure: () => follower.failure,
            history,
            stop: () => follower.stop(),
        };
    }

    private realClient(params: Params, sse: boolean): Client {
        const history: string[] = [];
        const abort = new AbortController();
        let failure: Error | undefined;
        const text = (value: string): string => value;
        const stream = new ShapeStream({
            url: this.server.shapeUrl,
            params: clientParams(params),
            signal: abort.signal,
            liveSse: sse,
            warnOnHttp: false,
            parser: { int4: text },
            backoffOptions: { initialDelay: 20, maxDelay: 200, multiplier: 1.5 },
            fetchClient: async (input, init) => {
                const { searchParams } = new URL(String(input instanceof Request ? input.url : input));
                const asked = {
                    offset: searchParams.get('offset') ?? '-1',
                    handle: searchParams.get('handle') ?? undefined,
                    at: performance.now(),
                };
                const response = await fetch(input, init);
                try {
                    const handle = response.headers.get('electric-handle') ?? undefined;
                    this.recorder.answered(params, asked, response.status, handle);
                } catch (error) {
                    failure = error as Error;
                }
                // It would wait for as long as a 503 asks: seconds, of rounds of a third.
                if (response.status !== 503) return response;
                return new Response(await response.text(), { status: 503 });
            },
            onError: (error) => {
                // A body that was cut short is told to the app, which asks to go on.
                if (/^(terminated|fetch failed|other side closed)/.test(error.message)) return {};
                failure = error;
            },
        });
        const shape = new Shape(stream);
        shape.subscribe(({ rows }) => remember(history, `${rows.length} rows`));
        return {
            label: `client ${this.joined}${sse ? ' (sse)' : ''} of ${JSON.stringify(params)}`,
            params,
            rows: () => shape.currentRows as unknown as Row[],
            upToDate: () => stream.isUpToDate,
            failure: () => failure,
            history,
            stop: async () => {
                stream.unsubscribeAll();
                abort.abort();
            },
        };
    }

    private async leave(): Promise<void> {
        const stay: Client[] = [];
        for (const client of this.clients) {
            if (this.random.chance(0.35)) await client.stop();
            else stay.push(client);
        }
        this.clients = stay;
    }

    // --- comparison ---

    private async compareAll(round: number): Promise<void> {
        const truth = new Map<Params, string[]>();
        for (const client of this.clients) {
            let expected = truth.get(client.params);
            if (!expected) {
                const rows = await this.db.sql(truthOf(client.params));
                expected = canonical(rows, columnsOf(client.params));
                truth.set(client.params, expected);
            }
            await this.compare(client, round, expected);
        }
    }

    private async rereadSome(random: Random): Promise<void> {
        const promised = this.recorder.promised();
        for (let n = 0; n < REREAD && promised.length > 0; n++) {
            await this.recorder.again(this.server.url, random.pick(promised));
        }
    }

    private async compare(client: Client, round: number, expected: string[]): Promise<void> {
        const table = tableOf(client.params);
        await until(`${client.label} to reach the end of round ${round}`, async () => {
            await this.disturber.recover();
            const failure = client.failure();
            if (failure) throw new Hopeless(`${client.label}: ${failure.message}`);
            if (!client.upToDate()) return false;
            for (const row of client.rows()) if (table.marked(row, round)) return true;
            return false;
        }, 30_000, 5).catch((error) => {
            throw new Error(`${(error as Error).message}\n${this.state(client, expected)}`);
        });
        const failure = client.failure();
        if (failure) throw new Error(`${client.label}: ${failure.message}`);
        const actual = canonical(client.rows(), columnsOf(client.params));
        if (JSON.stringify(actual) !== JSON.stringify(expected)) {
            throw new Error(`${client.label} has other rows\n${this.state(client, expected)}`);
        }
    }

    private state(client: Client, expected: string[]): string {
        const actual = canonical(client.rows(), columnsOf(client.params));
        const missing = expected.filter((row) => !actual.includes(row));
        const extra = actual.filter((row) => !expected.includes(row));
        const show = (rows: string[]): string =>
            rows.slice(0, 8).map((row) => `    ${row.slice(0, 160)}`).join('\n');
        const failure = client.failure();
        return [
            failure ? `failure: ${failure.message}` : '',
            `${missing.length} rows missing:`, show(missing),
            `${extra.length} rows too many:`, show(extra),
            'its last changes:',
            ...client.history.slice(-40).map((line) => `    ${line}`),
        ].join('\n');
    }
}

function clientParams(params: Params): ClientRow & Record<string, any> {
    const { columns, ...rest } = params;
    const values: Record<string, string> = {};
    for (const name of Object.keys(rest).filter((key) => key.startsWith('params['))) {
        values[name.slice('params['.length, -1)] = String(rest[name]);
        delete rest[name];
    }
    return {
        ...rest,
        ...(columns ? { columns: String(columns).split(',') } : {}),
        ...(Object.keys(values).length > 0 ? { params: values } : {}),
    } as any;
}

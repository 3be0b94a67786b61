// The randomised oracle. Writers run random transactions while clients join and leave and
// the server is killed and restarted; at the end of a round the writers pause, and every
// client must arrive at exactly the rows that SELECT gives.
//
// All decisions come from one seed, so that a failure names the seed that shows it again
// (up to the timing of processes).
import type pg from 'pg';
import { Shape, ShapeStream, type Row as ClientRow } from '@electric-sql/client';
import { Coulomb, type Params } from '../support/coulomb.js';
import { Follower, type Change, type Row } from '../support/follower.js';
import { Cluster } from '../support/postgres.js';
import { Hopeless, sleep, until } from '../support/process.js';
import { Database, serverEnv } from '../support/suite.js';
import { Random } from './random.js';

export interface OracleOptions {
    seed: number;
    rounds: number;
    /** Milliseconds that the writers work in each round. */
    roundMs?: number;
    log?: (line: string) => void;
}

interface Table {
    name: string;
    columns: string[];
    key: string[];
    ddl: string;
    /** Makes the marker row say that round `n` is over. */
    mark: (n: number) => string;
    /** Whether a row says so. */
    marked: (row: Row, n: number) => boolean;
}

const MARK = 'marker';

const TABLES: Table[] = [
    {
        name: 'o_int',
        columns: ['id', 'v', 'n'],
        key: ['id'],
        ddl: 'create table o_int(id int primary key, v text, n int); insert into o_int values (0, null, 0)',
        mark: (n) => `insert into o_int values (0, '${MARK}-${n}', ${n})
            on conflict (id) do update set n = excluded.n, v = excluded.v`,
        marked: (row, n) => row.id === '0' && row.v === `${MARK}-${n}`,
    },
    {
        name: 'o_comp',
        columns: ['b', 'a', 'v'],
        key: ['a', 'b'],
        ddl: 'create table o_comp(b text, a int, v text, primary key (a, b))',
        mark: (n) => `insert into o_comp values ('${MARK}', 0, '${n}')
            on conflict (a, b) do update set v = excluded.v`,
        marked: (row, n) => row.a === '0' && row.v === String(n),
    },
    {
        name: 'o_none',
        columns: ['u', 'v', 'n'],
        key: ['u', 'v', 'n'],
        ddl: 'create table o_none(u text, v text, n int)',
        mark: (n) => `delete from o_none where u = '${MARK}'; insert into o_none values ('${MARK}', '${n}', ${n})`,
        marked: (row, n) => row.u === MARK && row.v === String(n),
    },
    {
        name: 'o_text',
        columns: ['k', 'big', 'n'],
        key: ['k'],
        ddl: 'create table o_text(k text primary key, big text, n int); alter table o_text alter big set storage external',
        mark: (n) => `insert into o_text values ('${MARK}', '', ${n})
            on conflict (k) do update set n = excluded.n`,
        marked: (row, n) => row.k === MARK && row.n === String(n),
    },
];

const SHAPES: Params[] = [
    { table: 'o_int' },
    { table: 'o_int', replica: 'full' },
    { table: 'o_int', columns: 'id,v' },
    { table: 'o_comp' },
    { table: 'o_comp', replica: 'full' },
    { table: 'o_none' },
    { table: 'o_text' },
    { table: 'o_text', columns: 'k,n' },
    { table: 'o_text', replica: 'full' },
];

function tableOf(params: Params): Table {
    return TABLES.find((t) => t.name === params.table)!;
}

function columnsOf(params: Params): string[] {
    return params.columns ? String(params.columns).split(',') : tableOf(params).columns;
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
    private readonly counts = { transactions: 0, kills: 0, clients: 0, refetches: 0 };

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
                        `round ${round} of seed ${this.options.seed} (${again}): ` +
                            `${(error as Error).message}\n--- server log\n${this.server.tail(30)}`,
                        { cause: error },
                    );
                }
            }
            this.options.log?.(
                `seed ${this.options.seed}: ${this.options.rounds} rounds, ` +
                    `${this.counts.transactions} transactions, ${this.counts.kills} ends of the ` +
                    `server, ${this.counts.clients} clients`,
            );
        } finally {
            await this.end();
        }
    }

    private async begin(): Promise<void> {
        this.cluster = await Cluster.start();
        this.db = await Database.create('oracle', this.cluster);
        for (const table of TABLES) await this.db.sql(table.ddl);
        await this.seedRows();
        // Small chunks, so that catching up crosses many boundaries.
        this.server = await Coulomb.start(
            serverEnv(this.db, {
                ELECTRIC_SHAPE_CHUNK_BYTES_THRESHOLD: '20000',
                ELECTRIC_LONG_POLL_TIMEOUT: '3000',
            }),
        );
        await this.server.active();
    }

    private async seedRows(): Promise<void> {
        await this.db.sql(`
            insert into o_int select i, 'v' || i, i from generate_series(1, 120) i;
            insert into o_comp select 'b' || (i % 7), i, 'v' || i from generate_series(1, 60) i;
            insert into o_none select 'u' || i, 'v' || i, i from generate_series(1, 40) i;
            insert into o_text select 'k/' || i, repeat(md5(i::text), 100), i
                from generate_series(1, 30) i`);
    }

    private async end(): Promise<void> {
        for (const client of this.clients) await client.stop();
        await this.server?.close();
        await this.cluster?.remove();
    }

    private async round(round: number): Promise<void> {
        const { random } = this;
        const roundMs = this.options.roundMs ?? 700;
        this.writing = true;
        const writers = Promise.all([1, 2, 3].map((n) => this.write(random.fork(), n)));
        writers.catch(() => undefined);
        const actors = Promise.all([
            this.join(random.fork(), roundMs), this.disturb(random.fork(), roundMs),
        ]);
        actors.catch(() => undefined);
        await sleep(roundMs);
        await actors;
        this.writing = false;
        await writers;
        if (!this.server.running) await this.server.launch();
        for (const table of TABLES) await this.db.sql(table.mark(round));
        await this.compareAll(round);
        await this.leave();
    }

    // --- writers ---

    private async write(random: Random, writer: number): Promise<void> {
        let session: pg.Client | undefined;
        while (this.writing) {
            try {
                session ??= await this.cluster.connect(this.db.name);
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
            await session.query(this.statement(random, writer));
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
            await session.query(this.statement(random, writer));
        }
    }

    private statement(random: Random, writer: number): string {
        if (random.chance(0.003)) return `truncate ${random.pick(TABLES).name}`;
        switch (random.int(0, 9)) {
            case 0: case 1: case 2: case 3:
                return this.intStatement(random);
            case 4: case 5:
                return this.compStatement(random);
            case 6: case 7:
                return this.noneStatement(random, writer);
            default:
                return this.textStatement(random);
        }
    }

    private intStatement(random: Random): string {
        const id = random.int(1, 200);
        const to = id + random.int(1, 15);
        switch (random.int(0, 7)) {
            case 0: case 1:
                return `insert into o_int values (${id}, 'i${random.int(0, 9)}', ${random.int(0, 99)})
                    on conflict do nothing`;
            case 2:
                return `update o_int set v = 'u${random.int(0, 999)}' where id between ${id} and ${to}`;
            case 3:
                return `update o_int set n = n + 1, v = nullif(v, 'i1') where id = ${id}`;
            case 4:
                return `update o_int set v = v where id between ${id} and ${to}`;
            case 5:
                return `update o_int set id = ${random.int(1, 200)}, n = 7 where id = ${id}`;
            case 6:
                return `delete from o_int where id between ${id} and ${to}`;
            default:
                return `insert into o_int select i, 'm', i from generate_series(${id}, ${to}) i
                    on conflict (id) do update set n = o_int.n + 1`;
        }
    }

    private compStatement(random: Random): string {
        const a = random.int(1, 60);
        const b = `b${random.int(0, 6)}`;
        switch (random.int(0, 4)) {
            case 0:
                return `insert into o_comp values ('${b}', ${a}, 'i') on conflict do nothing`;
            case 1:
                return `update o_comp set v = 'u${random.int(0, 99)}' where b = '${b}'`;
            case 2:
                return `update o_comp set b = 'b/${random.int(0, 6)}' where a = ${a}`;
            case 3:
                return `update o_comp set a = ${random.int(61, 90)} where a = ${a} and b = '${b}'`;
            default:
                return `delete from o_comp where a = ${a} or (a > 60 and a % 7 = ${random.int(0, 6)})`;
        }
    }

    private noneStatement(random: Random, writer: number): string {
        // Equal rows would share a key, which no client can tell apart: u is unique.
        const u = `u${writer}-${random.int(1, 1_000_000_000)}`;
        const n = random.int(0, 50);
        switch (random.int(0, 3)) {
            case 0: case 1:
                return `insert into o_none values ('${u}', ${random.chance(0.2) ? 'null' : `'x${n}'`}, ${n})`;
            case 2:
                return `update o_none set v = 'w${random.int(0, 99)}' where n = ${n} and u <> '${MARK}'`;
            default:
                return `delete from o_none where n = ${n} and u <> '${MARK}'`;
        }
    }

    private textStatement(random: Random): string {
        const k = `k/${random.int(1, 40)}`;
        const big = `repeat('${random.int(0, 9)}é"\\', ${random.int(1, 4000)})`;
        switch (random.int(0, 5)) {
            case 0:
                return `insert into o_text values ('${k}', ${big}, 1) on conflict do nothing`;
            case 1: case 2:
                // The large value stays and is not in the WAL as a new value.
                return `update o_text set n = n + 1 where k = '${k}'`;
            case 3:
                return `update o_text set big = ${big} where k = '${k}'`;
            case 4:
                return `update o_text set k = 'k/${random.int(1, 40)}' where k = '${k}'`;
            default:
                return `delete from o_text where k = '${k}'`;
        }
    }

    // --- clients ---

    private async join(random: Random, roundMs: number): Promise<void> {
        const end = Date.now() + roundMs;
        while (Date.now() < end) {
            if (this.clients.length < 16) this.addClient(random);
            await sleep(random.int(20, roundMs / 4));
        }
    }

    private addClient(random: Random): void {
        const params = random.pick(SHAPES);
        const kind = random.int(0, 9);
        this.joined++;
        this.counts.clients++;
        if (kind < 2) this.clients.push(this.realClient(params, kind === 0));
        else this.clients.push(this.ownClient(params, kind < 4));
    }

    private ownClient(params: Params, sse: boolean): Client {
        const history: string[] = [];
        const follower = new Follower(() => this.server.url, params, {
            sse,
            keyColumns: tableOf(params).key,
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
            onError: (error) => {
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
            failure: () => failure ?? (shape.error || undefined),
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

    // --- disturbances ---

    private async disturb(random: Random, roundMs: number): Promise<void> {
        const what = random.next();
        await sleep(random.int(0, roundMs * 0.8));
        if (what < 0.45) {
            await this.server.kill9();
        } else if (what < 0.55) {
            await this.server.stop();
        } else if (what < 0.6) {
            await this.cluster.kill();
            this.db.forgetSessions();
            await this.cluster.launch();
            return;
        } else {
            return;
        }
        this.counts.kills++;
        if (random.chance(0.7)) await this.server.launch();
    }

    // --- comparison ---

    private async compareAll(round: number): Promise<void> {
        const truth = new Map<Params, string[]>();
        for (const client of this.clients) {
            let expected = truth.get(client.params);
            if (!expected) {
                const columns = columnsOf(client.params);
                const rows = await this.db.sql(`select ${columns.join(', ')} from ${client.params.table}`);
                expected = canonical(rows, columns);
                truth.set(client.params, expected);
            }
            await this.compare(client, round, expected);
        }
    }

    private async compare(client: Client, round: number, expected: string[]): Promise<void> {
        const table = tableOf(client.params);
        await until(`${client.label} to reach the end of round ${round}`, () => {
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
    return { ...rest, ...(columns ? { columns: String(columns).split(',') } : {}) } as any;
}

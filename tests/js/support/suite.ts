// What a test file starts with: a database of its own in the run's cluster and a server on
// it. `useSuite` registers both with vitest and removes them afterwards.
import { afterAll, afterEach, beforeAll, inject } from 'vitest';
import type pg from 'pg';
import { Coulomb, type Env } from './coulomb.js';
import { connect, databaseUrl, type ClusterAddress } from './postgres.js';
import { until } from './process.js';

let counter = 0;

/** A fresh database with its own stream id, since slots are cluster-wide. */
export class Database {
    readonly name: string;
    readonly streamId: string;
    readonly cluster: ClusterAddress;
    private readonly sessions: pg.Client[] = [];
    private main: pg.Client | undefined;

    private constructor(cluster: ClusterAddress, name: string) {
        this.cluster = cluster;
        this.name = name;
        this.streamId = name;
    }

    static async create(label: string, cluster: ClusterAddress): Promise<Database> {
        const name = `${label.toLowerCase().replace(/[^a-z0-9]+/g, '_').slice(0, 20)}_` +
            `${process.pid}_${++counter}`;
        const admin = await connect(cluster, 'postgres');
        await admin.query(`create database ${name}`);
        await admin.end();
        return new Database(cluster, name);
    }

    get url(): string {
        return databaseUrl(this.cluster, this.name);
    }

    get slot(): string {
        return `electric_slot_${this.streamId}`;
    }

    get publication(): string {
        return `electric_publication_${this.streamId}`;
    }

    /** A further session, closed with the database. */
    async session(): Promise<pg.Client> {
        const db = await connect(this.cluster, this.name);
        this.sessions.push(db);
        return db;
    }

    /** Runs SQL (several statements are fine) on the main session; rows of the last. */
    async sql(text: string, values?: unknown[]): Promise<any[]> {
        this.main ??= await this.session();
        const result = await this.main.query(text, values);
        const last = Array.isArray(result) ? result[result.length - 1] : result;
        return last.rows;
    }

    /** Drops sessions that a restart of Postgres has ended. */
    forgetSessions(): void {
        this.main = undefined;
        this.sessions.length = 0;
    }

    async drop(): Promise<void> {
        for (const db of this.sessions) await db.end().catch(() => undefined);
        const admin = await connect(this.cluster, 'postgres');
        try {
            await until('the replication slot to be free', async () => {
                const { rows } = await admin.query(
                    'select slot_name, active_pid from pg_replication_slots where database = $1',
                    [this.name],
                );
                for (const row of rows) {
                    if (row.active_pid !== null) {
                        await admin.query('select pg_terminate_backend($1::int)', [row.active_pid]);
                    } else {
                        await admin.query('select pg_drop_replication_slot($1)', [row.slot_name]);
                    }
                }
                return rows.length === 0;
            });
            await admin.query(`drop database ${this.name} with (force)`);
        } finally {
            await admin.end();
        }
    }
}

export const TEST_ENV: Env = {
    ELECTRIC_ENABLE_INTEGRATION_TESTING: 'true',
    ELECTRIC_LONG_POLL_TIMEOUT: '2000',
};

export interface Suite {
    db: Database;
    /** The major version. */
    postgres: number;
    server: Coulomb;
    /** Another server on the same database; `env` overrides. Closed with the suite. */
    another(env?: Env): Promise<Coulomb>;
}

export interface SuiteOptions {
    env?: Env;
    /** SQL run before the server starts. */
    setup?: string;
    /** False: no server is started; the tests do it with `another`. */
    server?: boolean;
    cluster?: () => ClusterAddress;
}

/** Settings of a server on that database. */
export function serverEnv(db: Database, env: Env = {}): Env {
    return {
        ...TEST_ENV,
        DATABASE_URL: db.url,
        ELECTRIC_REPLICATION_STREAM_ID: db.streamId,
        ...env,
    };
}

export function useSuite(label: string, options: SuiteOptions = {}): Suite {
    const suite = {} as Suite;
    const servers: Coulomb[] = [];
    suite.another = async (env: Env = {}): Promise<Coulomb> => {
        const server = new Coulomb(serverEnv(suite.db, { ...options.env, ...env }));
        servers.push(server);
        await server.launch();
        return server;
    };
    beforeAll(async () => {
        const cluster = options.cluster?.() ?? inject('cluster');
        suite.db = await Database.create(label, cluster);
        const [{ v }] = await suite.db.sql("select current_setting('server_version_num') as v");
        suite.postgres = Math.floor(Number(v) / 10_000);
        if (options.setup) await suite.db.sql(options.setup);
        if (options.server !== false) {
            suite.server = await suite.another();
            await suite.server.active();
        }
    });
    afterEach((context) => {
        onFailure(context, servers);
    });
    afterAll(async () => {
        for (const server of servers) await server.close();
        if (suite.db) await suite.db.drop();
    });
    return suite;
}

function onFailure(context: { task: { result?: { state?: string } } }, servers: Coulomb[]): void {
    if (context.task.result?.state !== 'fail') return;
    for (const server of servers) {
        if (server.log) process.stderr.write(`--- server log (end)\n${server.tail(25)}\n---\n`);
    }
}


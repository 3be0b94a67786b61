// A cluster of a test file's own, to be stopped, frozen, reconfigured and replaced, with
// servers and followers that end with each test.
import { afterAll, afterEach, beforeAll } from 'vitest';
import type pg from 'pg';
import { Coulomb, type Env } from './coulomb.js';
import { Follower } from './follower.js';
import { Cluster, type ClusterOptions } from './postgres.js';
import { TEST_ENV } from './suite.js';

export class OwnCluster {
    cluster!: Cluster;
    private db: pg.Client | undefined;
    private readonly servers: Coulomb[] = [];
    private readonly followers: Follower[] = [];

    /** SQL on the main session, made anew when Postgres has ended it; rows of the last. */
    async sql(text: string): Promise<any[]> {
        for (let attempt = 0; ; attempt++) {
            try {
                this.db ??= await this.cluster.connect('postgres');
                const result = await this.db.query(text);
                return (Array.isArray(result) ? result.at(-1) : result).rows;
            } catch (error) {
                const code = (error as { code?: string }).code;
                if (attempt > 0 || (code !== undefined && !/^(57P|08|ECONN)/.test(code))) throw error;
                await this.db?.end().catch(() => undefined);
                this.db = undefined;
            }
        }
    }

    env(env: Env = {}): Env {
        return {
            ...TEST_ENV, DATABASE_URL: this.cluster.url('postgres'),
            ELECTRIC_TWEAKS_PUBLICATION_REFRESH_PERIOD: '1s',
            ELECTRIC_TWEAKS_SCHEMA_RECONCILER_PERIOD: '1s', ...env,
        };
    }

    /** A server that is not started yet. */
    server(env: Env = {}): Coulomb {
        const server = new Coulomb(this.env(env));
        this.servers.push(server);
        return server;
    }

    async start(env: Env = {}): Promise<Coulomb> {
        const server = this.server(env);
        await server.launch();
        return server;
    }

    follow(server: Coulomb, table = 'items'): Follower {
        const follower = new Follower(() => server.url, { table }).start();
        this.followers.push(follower);
        return follower;
    }

    async endTest(failed: boolean): Promise<void> {
        for (const follower of this.followers.splice(0)) await follower.stop();
        for (const server of this.servers.splice(0)) {
            if (failed) process.stderr.write(`--- server log (end)\n${server.tail(25)}\n---\n`);
            await server.close();
        }
        await this.sql('select pg_drop_replication_slot(slot_name) from pg_replication_slots')
            .catch(() => undefined);
        await this.sql('drop publication if exists electric_publication_default')
            .catch(() => undefined);
    }

    async end(): Promise<void> {
        await this.db?.end().catch(() => undefined);
        await this.cluster.remove();
    }
}

export function useOwnCluster(setup: string, options: ClusterOptions = {}): OwnCluster {
    const own = new OwnCluster();
    beforeAll(async () => {
        own.cluster = await Cluster.start(options);
        await own.sql(setup);
    });
    afterEach((context) => own.endTest(context.task.result?.state === 'fail'));
    afterAll(() => own.end());
    return own;
}

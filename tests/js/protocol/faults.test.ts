// Faults of Postgres, from outside: what the log, a waiting request, health and
// `coulomb status` say, and that all is well afterwards. A cluster of its own, since
// settings change and it is stopped, frozen and put back.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type pg from 'pg';
import type { Env } from '../support/coulomb.js';
import { exchange } from '../support/http.js';
import { useOwnCluster } from '../support/own-cluster.js';
import { databaseUrl } from '../support/postgres.js';
import { freePort, sleep, until } from '../support/process.js';
import { readToEnd, untilRows } from '../support/shapes.js';

const own = useOwnCluster(
    "create table items(id int primary key, v text); insert into items values (1, 'a')",
);
const items = (): Promise<any[]> => own.sql('select * from items');

describe('what a person must cure ends the server with the cure', () => {
    async function ending(env: Env): Promise<string> {
        const server = own.server(env);
        const code = await server.launchExpectingExit({}, 20_000);
        expect(typeof code, `ended by ${code}\n${server.tail()}`).toBe('number');
        expect(code).not.toBe(0);
        return server.log;
    }
    const as = (role: string, database = 'postgres'): Env =>
        ({ DATABASE_URL: databaseUrl(own.cluster, database, role) });

    test('a role without the attribute REPLICATION', async () => {
        await own.sql('create role plain login');
        expect(await ending(as('plain'))).toContain('ALTER ROLE \\"plain\\" WITH REPLICATION;');
    });

    test('a role that may not create the publication', async () => {
        await own.sql('create role streamer login replication');
        const log = await ending(as('streamer'));
        expect(log).toContain('GRANT CREATE ON DATABASE \\"postgres\\" TO \\"streamer\\";');
        expect(log).toContain('CREATE PUBLICATION \\"electric_publication_default\\"');
    });

    test('a role that may not log in, one that does not exist, one without CONNECT', async () => {
        await own.sql('create role locked');
        await own.sql('create database closed');
        await own.sql('revoke connect on database closed from public');
        expect(await ending(as('locked'))).toContain('ALTER ROLE \\"locked\\" WITH LOGIN;');
        expect(await ending(as('nobody'))).toContain('CREATE ROLE \\"nobody\\" WITH LOGIN REPLICATION');
        expect(await ending(as('streamer', 'closed'))).toContain('GRANT CONNECT ON DATABASE \\"closed\\" TO \\"streamer\\";');
    });

    test('a database that does not exist', async () => {
        expect(await ending(as('postgres', 'no_such'))).toContain('CREATE DATABASE \\"no_such\\"');
    });

    test('no line of pg_hba.conf, or one that rejects', async () => {
        const hba = (text: string): Promise<any[]> => {
            own.cluster.writeData('pg_hba.conf', text);
            return own.sql('select pg_reload_conf(), pg_sleep(0.2)');
        };
        const cure = /put a line like host \\"postgres\\" \\"hba\\" ADDRESS\/32 .*pg_hba.conf.*pg_reload_conf\(\)/;
        await own.sql('create role hba login replication');
        try {
            await hba('host all postgres 127.0.0.1/32 trust\n');
            expect(await ending(as('hba'))).toMatch(cure);
            await hba('host all hba 127.0.0.1/32 reject\nhost all all 127.0.0.1/32 trust\n');
            expect(await ending(as('hba'))).toMatch(cure);
        } finally {
            await hba('host all all 127.0.0.1/32 trust\n');
        }
    });
});

describe('connections', () => {
    /** Takes all connections that are left; gives them back by the function returned. */
    async function exhaust(): Promise<() => Promise<void>> {
        const taken: pg.Client[] = [];
        for (;;) {
            try {
                taken.push(await own.cluster.connect('postgres'));
            } catch {
                return async () => {
                    for (const one of taken) await one.end();
                };
            }
        }
    }

    beforeAll(async () => {
        await own.cluster.stop();
        own.cluster.configure({ max_connections: 12, superuser_reserved_connections: 0 });
        await own.cluster.launch();
    });
    afterAll(async () => {
        await own.cluster.stop();
        own.cluster.configure({ max_connections: 100, superuser_reserved_connections: 3 });
        await own.cluster.launch();
    });

    test('none left at the start: it waits, tells why, and goes on', async () => {
        await own.sql('select 1');
        const free = await exhaust();
        const server = await own.start();
        const why = /too many clients.*max_connections/;
        try {
            await until('the reason', async () => why.test((await server.health()).detail ?? ''));
            expect((await server.get('/v1/health')).status).toBe(202);
            expect(await server.status()).toMatch(why);
            expect(server.log).toMatch(why);
            const reply = await server.shape({ table: 'items', offset: -1 }, { timeoutMs: 20_000 });
            expect(reply.status).toBe(503);
            expect(reply.json().message).toMatch(why);
        } finally {
            await free();
        }
        await server.active();
        await readToEnd(server, { table: 'items' });
    }, 60_000);

    test('none left during the run: what exists is served, new shapes are told why', async () => {
        await own.sql('create table if not exists more(id int primary key)');
        const server = await own.start({ ELECTRIC_DB_POOL_SIZE: '4' });
        await server.active();
        const follower = own.follow(server);
        await untilRows(follower, items);
        // The stream describes the table with its first change; the catalog is asked then.
        await own.sql("update items set v = 'first' where id = 1");
        await untilRows(follower, items);
        await own.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'coulomb' and backend_type <> 'walsender'");
        const free = await exhaust();
        try {
            await own.sql("insert into items values (2, 'b')");
            await untilRows(follower, items);
            const reply = await server.shape({ table: 'more', offset: -1 }, { timeoutMs: 20_000 });
            expect(reply.status).toBe(503);
            expect(reply.json().message).toMatch(/too many clients.*max_connections/);
            expect(server.log).toMatch(/event=pool\.unreachable .*max_connections/);
            // Nobody can say how far the WAL is, so nobody says that all is fresh.
            await until('the lag to grow', async () => (await server.health()).lag_ms > 2_500);
        } finally {
            await free();
        }
        await until('a new shape', async () => (await server.shape({ table: 'more', offset: -1 })).status === 200);
        await until('the lag to fall', async () => (await server.health()).lag_ms < 2_000);
    }, 60_000);

    test('no WAL sender left', async () => {
        const server = await own.start();
        await server.active();
        await server.stop();
        await own.sql("alter system set max_wal_senders = 1");
        await own.cluster.stop();
        own.cluster.configure({ max_wal_senders: 1 });
        await own.cluster.launch();
        const other = await own.start({ ELECTRIC_REPLICATION_STREAM_ID: 'other' });
        await other.active();
        await server.launch();
        await until('the reason', async () => /pg_stat_replication.*max_wal_senders = 20/.test((await server.health()).detail ?? ''));
        await other.stop();
        await server.active();
        own.cluster.configure({ max_wal_senders: 50 });
    }, 60_000);
});

describe('privileges on tables', () => {
    test('each refusal names the SQL that helps, which then helps', async () => {
        await own.sql(`create role limited login replication; grant create on database postgres to limited;
            create table theirs(id int primary key); create schema hidden;
            create table hidden.inside(id int primary key); alter table hidden.inside owner to limited;
            create table mine(id int primary key); alter table mine owner to limited; revoke all on mine from limited`);
        const server = await own.start({ DATABASE_URL: databaseUrl(own.cluster, 'postgres', 'limited') });
        await server.active();
        async function cured(table: string): Promise<string[]> {
            const advice: string[] = [];
            for (let n = 0; n < 5; n++) {
                const reply = await server.shape({ table, offset: -1 });
                if (reply.status === 200) return advice;
                expect(reply.status, reply.text).toBe(503);
                const text: string = reply.json().message;
                expect(text).toMatch(/;$/);
                const cures = text.match(/(ALTER|GRANT) [^;]*;/g);
                expect(cures, text).not.toBeNull();
                advice.push(...cures!);
                for (const cure of cures!) await own.sql(cure);
            }
            throw new Error(`not cured by ${advice.join(' ')}`);
        }
        expect(await cured('theirs')).toEqual([
            'ALTER PUBLICATION "electric_publication_default" ADD TABLE "public"."theirs";',
            'ALTER TABLE "public"."theirs" REPLICA IDENTITY FULL;',
            'GRANT SELECT ON TABLE "public"."theirs" TO "limited";',
        ]);
        expect(await cured('mine')).toContain('GRANT SELECT ON TABLE "public"."mine" TO "limited";');
        expect(await cured('hidden.inside')).toEqual(['GRANT USAGE ON SCHEMA "hidden" TO "limited";']);
        await server.stop();
        await own.sql('select pg_drop_replication_slot(slot_name) from pg_replication_slots');
        await own.sql('drop owned by limited cascade');
        await own.sql('drop table theirs; drop schema hidden cascade; drop role limited');
    }, 60_000);
});

describe('a slot that can not be made yet', () => {
    test('open transactions are named, in health, at status and in the 503', async () => {
        const session = await own.cluster.connect('postgres');
        await session.query('begin; create table pending(id int)');
        const server = await own.start();
        const why = /waits for transactions.*pg_stat_activity/;
        await until('the reason', async () => why.test((await server.health()).detail ?? ''));
        const slow: number[] = [];
        for (let n = 0; n < 5; n++) slow.push((await server.get('/v1/health')).tookMs);
        expect(Math.max(...slow)).toBeLessThan(1_000);
        expect(await server.status()).toMatch(why);
        const reply = await server.shape({ table: 'items', offset: -1 }, { timeoutMs: 20_000 });
        expect(reply.status).toBe(503);
        expect(reply.json().message).toMatch(why);
        await session.query('rollback');
        await session.end();
        await server.active();
    }, 60_000);
});

describe('Postgres goes away', () => {
    test('stopped for a while: not active, the lag grows in health and metrics, then all is well', async () => {
        const port = await freePort();
        const server = await own.start({ ELECTRIC_PROMETHEUS_PORT: String(port) });
        const metric = async (name: string): Promise<number> =>
            Number(new RegExp(`^${name} (.*)$`, 'm').exec(
                (await exchange(`http://127.0.0.1:${port}`, '/metrics')).text)![1]);
        await server.active();
        const follower = own.follow(server);
        await untilRows(follower, items);
        const { handle } = follower;
        await until('fresh data', async () => (await server.health()).lag_ms < 2_000);
        expect(await metric('coulomb_active')).toBe(1);
        expect(await metric('coulomb_replication_lag_seconds')).toBeLessThan(2.5);
        await own.cluster.stop();
        await until('health to notice', async () => (await server.get('/v1/health')).status === 202);
        await sleep(3_000);
        const away = await server.health();
        expect(away.status).not.toBe('active');
        expect(away.detail).toMatch(/can't be reached/);
        expect(away.lag_ms).toBeGreaterThan(2_500);
        expect(await metric('coulomb_active')).toBe(0);
        expect(await metric('coulomb_replication_lag_seconds')).toBeGreaterThan(2.5);
        expect(await server.status()).toMatch(/not follow Postgres[^]*why: .*can't be reached[^]*complete [3-9]\.\d+ s ago/);
        await own.cluster.launch();
        await own.sql("insert into items values (3, 'c')");
        await untilRows(follower, items, 30_000);
        expect(follower.handle).toBe(handle);
        await server.active();
        await until('fresh data', async () => (await server.health()).lag_ms < 2_000);
    }, 60_000);

    test('crashed again and again while rows come: nothing is lost', async () => {
        const server = await own.start();
        await server.active();
        const follower = own.follow(server);
        await untilRows(follower, items);
        const { handle } = follower;
        for (let n = 0; n < 3; n++) {
            await own.sql(`insert into items select i, 'crash' from generate_series(${1000 + n * 100}, ${1090 + n * 100}) i`);
            await own.cluster.kill();
            await own.cluster.launch();
        }
        await untilRows(follower, items, 40_000);
        expect(follower.handle).toBe(handle);
    }, 90_000);

    test('frozen: the lag grows although the connection stands, and it recovers', async () => {
        const server = await own.start();
        await server.active();
        await until('fresh data', async () => (await server.health()).lag_ms < 2_000);
        own.cluster.freeze(true);
        try {
            await until('the lag to grow', async () => (await server.health()).lag_ms > 3_000);
        } finally {
            own.cluster.freeze(false);
        }
        await until('fresh data', async () => (await server.health()).lag_ms < 2_000);
        expect((await server.get('/v1/health')).status).toBe(200);
    }, 60_000);

    test('its backends killed in the middle of a snapshot: the client gets all rows', async () => {
        await own.sql(`drop table if exists big; create table big(id int primary key, v text);
            insert into big select i, repeat('x', 500) from generate_series(1, 60000) i`);
        const server = await own.start();
        await server.active();
        const follower = own.follow(server, 'big');
        let killed = 0;
        for (let n = 0; n < 200 && killed < 3; n++) {
            const rows = await own.sql(`select pg_terminate_backend(pid) from pg_stat_activity
                where application_name = 'coulomb' and query like 'COPY%' and state = 'active'`);
            killed += rows.length;
            await sleep(rows.length > 0 ? 100 : 2);
        }
        await untilRows(follower, () => own.sql('select * from big'), 60_000);
        expect(killed).toBeGreaterThan(0);
    }, 120_000);

    test('a walsender that times out soon stays while a large transaction is read', async () => {
        await own.sql("drop table if exists wide; create table wide(id int primary key, v text)");
        await own.sql("alter database postgres set wal_sender_timeout = '1s'");
        try {
            const server = await own.start();
            await server.active();
            for (const columns of [undefined, 'id', 'id,v']) await readToEnd(server, { table: 'wide', columns });
            const before = await readToEnd(server, { table: 'wide', replica: 'full' });
            await own.sql("insert into wide select i, repeat(md5(i::text), 8) from generate_series(1, 300000) i");
            await until('all rows', async () => {
                const { lag_ms } = await server.health();
                expect(lag_ms).toBeGreaterThanOrEqual(0);
                const after = await readToEnd(server, { table: 'wide', replica: 'full' }, before);
                return after.messages.length > 300_000;
            }, 60_000, 1_000);
            expect(server.log).not.toMatch(/event=replica\.lost/);
            // Frozen itself, it is cut off, and comes back where it was.
            process.kill(server.pid, 'SIGSTOP');
            await sleep(3_000);
            process.kill(server.pid, 'SIGCONT');
            await own.sql("insert into wide values (0, 'after')");
            await until('the row', async () => (await readToEnd(server, { table: 'wide', replica: 'full' }, before))
                .messages.some((m) => m.value?.id === '0'), 30_000, 500);
        } finally {
            await own.sql('alter database postgres reset wal_sender_timeout');
        }
    }, 120_000);
});

// The process: settings, states, stop, health, log, metrics.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { Coulomb, coulombBin } from '../support/coulomb.js';
import { exchange } from '../support/http.js';
import { Cluster } from '../support/postgres.js';
import { freePort, sleep, until } from '../support/process.js';
import { readToEnd } from '../support/shapes.js';
import { serverEnv, useSuite } from '../support/suite.js';

const run = promisify(execFile);

const suite = useSuite('service', {
    setup: "create table items(id int primary key, v text); insert into items values (1, 'a')",
});

describe('settings', () => {
    async function refusal(env: Record<string, string>): Promise<string> {
        const server = new Coulomb(serverEnv(suite.db, env));
        const code = await server.launchExpectingExit(env);
        expect(code, server.log).not.toBe(0);
        expect(typeof code, `ended by ${code}`).toBe('number');
        await server.close();
        return server.log;
    }

    test('neither a secret nor insecure mode: it does not start', async () => {
        expect(await refusal({ ELECTRIC_INSECURE: 'false' })).toMatch(/ELECTRIC_SECRET/);
    });

    test('both a secret and insecure mode: it does not start', async () => {
        const log = await refusal({ ELECTRIC_SECRET: 's', ELECTRIC_INSECURE: 'true' });
        expect(log).toMatch(/ELECTRIC_INSECURE/);
    });

    test.each([
        ['ELECTRIC_PORT', 'eighty'],
        ['ELECTRIC_LONG_POLL_TIMEOUT', 'soon'],
        ['ELECTRIC_SHAPE_CHUNK_BYTES_THRESHOLD', '-1'],
        ['ELECTRIC_MAX_CONCURRENT_REQUESTS', '{"initial":"x"}'],
        ['ELECTRIC_ENABLE_INTEGRATION_TESTING', 'perhaps'],
        ['ELECTRIC_STORAGE', 'FILE'],
        ['DATABASE_URL', 'mysql://localhost/x'],
        ['DATABASE_URL', 'postgresql://localhost/x?sslmode=verify-full'],
        ['DATABASE_URL', 'postgresql://localhost/x?replication=database'],
    ])('%s=%s stops it with a sentence that names the setting', async (name, value) => {
        expect(await refusal({ [name]: value })).toContain(name);
    });

    test('a missing DATABASE_URL is named', async () => {
        const server = new Coulomb({ ELECTRIC_INSECURE: 'true' });
        expect(await server.launchExpectingExit()).not.toBe(0);
        expect(server.log).toContain('DATABASE_URL');
        await server.close();
    });

    test('--version and --help answer and end', async () => {
        expect((await run(coulombBin(), ['--version'])).stdout).toMatch(/coulomb \d+\.\d+/i);
        const help = await run(coulombBin(), ['serve', '--help']);
        expect(help.stdout).toContain('ELECTRIC_LONG_POLL_TIMEOUT');
        expect(help.stdout).toContain('DATABASE_URL');
    });

    test('an unknown flag or command is refused by name', async () => {
        for (const args of [['serve', '--no-such-flag'], ['no-such-command']]) {
            const failure = await run(coulombBin(), args).then(() => undefined, (error) => error);
            expect(failure).toBeDefined();
            expect(`${failure.stderr}${failure.stdout}`).toContain(args.at(-1)!.replace(/^--/, ''));
        }
    });
});

describe('a fault that no retry cures', () => {
    test('wal_level below logical ends it with the SQL to run', async () => {
        const cluster = await Cluster.start({ settings: { wal_level: 'replica' } });
        try {
            const server = new Coulomb({ DATABASE_URL: cluster.url('postgres') });
            const code = await server.launchExpectingExit({}, 20_000);
            expect(typeof code, `ended by ${code}\n${server.tail()}`).toBe('number');
            expect(code).not.toBe(0);
            expect(server.log).toMatch(/wal_level/);
            expect(server.log).toMatch(/ALTER SYSTEM/i);
            await server.close();
        } finally {
            await cluster.remove();
        }
    });

    test('an unknown database ends it and is named', async () => {
        const server = new Coulomb({
            DATABASE_URL: suite.db.url.replace(suite.db.name, 'no_such_database'),
        });
        const code = await server.launchExpectingExit({}, 20_000);
        expect(typeof code, `ended by ${code}\n${server.tail()}`).toBe('number');
        expect(code).not.toBe(0);
        expect(server.log).toContain('no_such_database');
        await server.close();
    });
});

describe('before Postgres is reachable', () => {
    test('health answers 202, shapes 503, and all is well once it comes up', async () => {
        const cluster = await Cluster.start();
        const db = await cluster.connect('postgres');
        await db.query("create table items(id int primary key); insert into items values (1)");
        await db.end();
        await cluster.stop();
        const server = new Coulomb({ DATABASE_URL: cluster.url('postgres') });
        try {
            await server.launch();
            const health = await server.get('/v1/health');
            expect(health.status).toBe(202);
            expect(['waiting', 'starting']).toContain(health.json().status);
            const early = await server.shape({ table: 'items', offset: -1 });
            expect(early.status).toBe(503);
            expect(early.headers['retry-after']).toBeDefined();
            expect(early.headers['cache-control']).toBe('no-store');
            await cluster.launch();
            await server.active(30_000);
            const reply = await server.shape({ table: 'items', offset: -1 });
            expect(reply.status, reply.text).toBe(200);
        } finally {
            await server.close();
            await cluster.remove();
        }
    }, 90_000);

    test('a transaction that delays the slot does not delay health', async () => {
        const cluster = await Cluster.start();
        const server = new Coulomb({ DATABASE_URL: cluster.url('postgres') });
        try {
            const session = await cluster.connect('postgres');
            await session.query('begin; create table pending(id int)');
            await server.launch();
            for (let n = 0; n < 5; n++) {
                const health = await server.get('/v1/health');
                expect(health.tookMs).toBeLessThan(2_000);
                expect(health.status).toBe(202);
                await sleep(200);
            }
            await session.query('commit');
            await server.active(30_000);
            await session.end();
        } finally {
            await server.close();
            await cluster.remove();
        }
    }, 90_000);
});

describe('SIGTERM', () => {
    test('ends it soon, with live requests answered', async () => {
        const server = await suite.another({
            ELECTRIC_REPLICATION_STREAM_ID: `${suite.db.streamId}_term`,
            ELECTRIC_LONG_POLL_TIMEOUT: '20000',
        });
        await server.active();
        const { handle, offset } = await readToEnd(server, { table: 'items' });
        const live = server.shape({ table: 'items', offset, handle, live: true });
        const stream = server.open({ table: 'items', offset, handle, live: true, live_sse: true });
        await stream.opened;
        await sleep(200);
        const started = Date.now();
        expect(await server.stop()).toBe(0);
        expect(Date.now() - started).toBeLessThan(5_000);
        const reply = await live;
        expect([200, 503]).toContain(reply.status);
        await stream.ended;
    });
});

describe('the log', () => {
    test('is key=value lines without secrets or row contents', async () => {
        const server = await suite.another({
            ELECTRIC_REPLICATION_STREAM_ID: `${suite.db.streamId}_log`,
            ELECTRIC_SECRET: 'topsecret-value', ELECTRIC_INSECURE: 'false', ELECTRIC_LOG_LEVEL: 'debug',
        });
        await server.active();
        await suite.db.sql("insert into items values (9, 'private-row-content') on conflict do nothing");
        await server.get('/v1/shape?table=items&offset=-1&secret=topsecret-value');
        await server.get('/v1/shape?table=items&offset=-1&secret=wrong-secret-value&token=tok-value&password=pw-value&api_key=key-value');
        await server.get('/v1/shape?table=nope&offset=-1&api_secret=topsecret-value&access_token=acc-value');
        await sleep(200);
        for (const word of ['topsecret-value', 'wrong-secret-value', 'tok-value', 'pw-value', 'key-value', 'acc-value', 'private-row-content']) {
            expect(server.log.includes(word), `${word} is in the log`).toBe(false);
        }
        for (const line of server.log.trim().split('\n')) expect(line).toMatch(/^ts=\S+ level=\w+ event=[\w.]+/);
        await server.stop();
    });
});

describe('metrics', () => {
    test('a port of its own serves Prometheus text; other paths are 404', async () => {
        const port = await freePort();
        const server = await suite.another({
            ELECTRIC_REPLICATION_STREAM_ID: `${suite.db.streamId}_metrics`,
            ELECTRIC_PROMETHEUS_PORT: String(port),
        });
        await server.active();
        await readToEnd(server, { table: 'items' });
        const base = `http://127.0.0.1:${port}`;
        const reply = await exchange(base, '/metrics');
        expect(reply.status).toBe(200);
        expect(reply.headers['content-type']).toMatch(/^text\/plain/);
        for (const line of reply.text.trim().split('\n')) {
            expect(line).toMatch(/^(# (HELP|TYPE) \w+ .*|\w+(\{[^}]*\})? [-+.\deInfNa]+)$/);
        }
        expect((await exchange(base, '/')).status).toBe(404);
        // The same number of series whatever the shapes are.
        const series = reply.text.split('\n').filter((l) => l && !l.startsWith('#')).length;
        await readToEnd(server, { table: 'items', replica: 'full' });
        await readToEnd(server, { table: 'items', columns: 'id' });
        const later = await exchange(base, '/metrics');
        expect(later.text.split('\n').filter((l) => l && !l.startsWith('#')).length).toBe(series);
        await server.stop();
    });
});

test('health is active and never cached', async () => {
    const reply = await suite.server.get('/v1/health');
    expect(reply.json()).toEqual({ status: 'active' });
    expect(reply.headers['cache-control']).toBe('no-cache, no-store, must-revalidate');
});

test('odd requests do not end the server', async () => {
    const paths = ['/v1/shape?%', '/v1/shape?table=%FF%FE&offset=-1', '/v1/shape?' + '&'.repeat(2000),
        '/v1/shape?table=items&offset=-1&' + 'a'.repeat(9000), '/%', '/v1/%00', '/v1/shape?table=%00&offset=-1',
        `/v1/shape?table=items&offset=0_${'9'.repeat(200)}&handle=1-1`];
    for (const path of paths) {
        const reply = await suite.server.get(path, { timeoutMs: 10_000 });
        expect(reply.status, path.slice(0, 60)).toBeLessThan(500);
    }
    await until('health', async () => (await suite.server.get('/v1/health')).status === 200);
});

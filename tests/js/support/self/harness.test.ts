// The harness itself: Postgres clusters, sessions and the HTTP client, without the server.
import http from 'node:http';
import { existsSync } from 'node:fs';
import { expect, inject, test } from 'vitest';
import { exchange, OpenResponse } from '../http.js';
import { Cluster, connect } from '../postgres.js';
import { until } from '../process.js';
import { Database } from '../suite.js';

test('the shared cluster is ready for logical replication', async () => {
    const db = await connect(inject('cluster'), 'postgres');
    const { rows } = await db.query("select setting from pg_settings where name = 'wal_level'");
    expect(rows).toEqual([{ setting: 'logical' }]);
    await db.end();
});

test('sessions show values as Postgres text with the protocol settings', async () => {
    const db = await Database.create('harness', inject('cluster'));
    const [row] = await db.sql(
        "select true as b, 1::int8 as i, interval '1 day 2 hours' as v, '\\x00ff'::bytea as y, " +
            "timestamptz '2024-01-31 12:00+02' as t",
    );
    expect(row).toEqual({
        b: 't', i: '1', v: 'P1DT2H', y: '\\x00ff', t: '2024-01-31 10:00:00+00',
    });
    await db.drop();
});

test('a cluster survives a crash and a restart on its port, and leaves nothing', async () => {
    const cluster = await Cluster.start({ fsync: true });
    const port = cluster.port;
    let db = await cluster.connect('postgres');
    await db.query('create table t(a int); insert into t values (1)');
    await cluster.kill();
    await cluster.launch();
    expect(cluster.port).toBe(port);
    db = await cluster.connect('postgres');
    expect((await db.query('select a from t')).rows).toEqual([{ a: '1' }]);
    await db.end();
    await cluster.remove();
    expect(existsSync(cluster.dir)).toBe(false);
});

test('the HTTP client sends paths as written and shows every header', async () => {
    const server = http.createServer((request, response) => {
        response.setHeader('X-Path', request.url ?? '');
        response.setHeader('X-Method', request.method ?? '');
        response.statusCode = 418;
        response.end('{"a":1}');
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    const { port } = server.address() as { port: number };
    const reply = await exchange(`http://127.0.0.1:${port}`, '//v1/%73hape/../x?a=1&a=2&b[]=', {
        method: 'PUT',
    });
    expect(reply.status).toBe(418);
    expect(reply.headers['x-path']).toBe('//v1/%73hape/../x?a=1&a=2&b[]=');
    expect(reply.headers['x-method']).toBe('PUT');
    expect(reply.json()).toEqual({ a: 1 });
    server.closeAllConnections();
    server.close();
});

test('an open response shows events as they come and who closed it', async () => {
    const server = http.createServer((_request, response) => {
        response.write('data: {"a":1}\n');
        setTimeout(() => response.write('\n: keep-alive\n\n'), 50);
        setTimeout(() => response.end(), 100);
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    const { port } = server.address() as { port: number };
    const stream = new OpenResponse(`http://127.0.0.1:${port}`, '/');
    await stream.opened;
    await until('both events', () => stream.events.length === 2);
    expect(stream.events).toEqual([{ a: 1 }, ': keep-alive']);
    await stream.ended;
    expect(stream.closedAtMs).toBeGreaterThan(0);
    server.close();
});

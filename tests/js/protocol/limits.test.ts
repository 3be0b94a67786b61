// What is scarce: shapes under a limit, connections of a small pool.
import { describe, expect, test } from 'vitest';
import type { Coulomb } from '../support/coulomb.js';
import { sleep, until } from '../support/process.js';
import { readToEnd } from '../support/shapes.js';
import { useSuite } from '../support/suite.js';

const suite = useSuite('limits', {
    server: false,
    env: {
        ELECTRIC_TWEAKS_PUBLICATION_REFRESH_PERIOD: '300ms',
        ELECTRIC_TWEAKS_SCHEMA_RECONCILER_PERIOD: '300ms',
    },
    setup: `
        create table items(id int primary key, a int, b int, c int, d int);
        insert into items values (1, 1, 1, 1, 1);
        create table calm(id int primary key); insert into calm values (1);
        create table unread(id int primary key);
        create table other(id int primary key);
    `,
});

describe('ELECTRIC_MAX_SHAPES', () => {
    const params = (column: string) => ({ table: 'items', columns: `id,${column}` });

    async function evicted(server: Coulomb, count: number): Promise<void> {
        await until(`${count} shapes to go`, () =>
            (server.log.match(/event=shape\.removed[^\n]*reason=evicted/g) ?? []).length >= count);
    }

    test('the least recently read shapes go; their clients get a clean refetch', async () => {
        const server = await suite.another({ ELECTRIC_MAX_SHAPES: '2' });
        await server.active();
        const a = await readToEnd(server, params('a'));
        await sleep(20);
        const b = await readToEnd(server, params('b'));
        await sleep(20);
        // `a` is read again: now `b` is the older one.
        await server.shape({ ...params('a'), offset: a.offset, handle: a.handle });
        await sleep(20);
        const waiting = server.shape({ ...params('b'), offset: b.offset, handle: b.handle, live: true });
        await sleep(50);
        await server.shape({ ...params('a'), offset: a.offset, handle: a.handle });
        await readToEnd(server, params('c'));
        await evicted(server, 1);
        const gone = await waiting;
        expect(gone.status).toBe(409);
        expect(gone.json()).toEqual([{ headers: { control: 'must-refetch' } }]);
        const kept = await server.shape({ ...params('a'), offset: a.offset, handle: a.handle });
        expect(kept.status).toBe(200);
        const again = await readToEnd(server, params('b'));
        expect(again.handle).not.toBe(b.handle);
        expect(again.messages.filter((m) => m.headers.operation).map((m) => m.value)).toEqual([{ id: '1', b: '1' }]);
        await server.stop();
    });

    test('a shape that nobody has read yet is spared', async () => {
        const server = await suite.another({
            ELECTRIC_MAX_SHAPES: '1', ELECTRIC_REPLICATION_STREAM_ID: `${suite.db.streamId}_young`,
        });
        await server.active();
        const calm = await readToEnd(server, { table: 'calm' });
        // A 409 for a made-up handle names a new shape, which is not read by that.
        const made = await server.shape({ table: 'unread', offset: '0_0', handle: '7-7' });
        expect(made.status).toBe(409);
        await evicted(server, 1);
        const gone = await server.shape({ table: 'calm', offset: calm.offset, handle: calm.handle });
        expect(gone.status).toBe(409);
        const read = await readToEnd(server, { table: 'unread' });
        expect(read.handle).toBe(made.headers['electric-handle']);
        await server.stop();
    });
});

describe('a small pool', () => {
    test('a look at the catalog that hangs is not in the way of a question', async () => {
        const server = await suite.another({
            ELECTRIC_DB_POOL_SIZE: '3', ELECTRIC_REPLICATION_STREAM_ID: `${suite.db.streamId}_pool`,
        });
        await server.active();
        await readToEnd(server, { table: 'items' });
        const session = await suite.db.session();
        await session.query('begin; lock table pg_catalog.pg_publication in access exclusive mode');
        try {
            await sleep(700);
            const reply = await server.shape({ table: 'no_such_table', offset: -1 }, { timeoutMs: 3_000 });
            expect(reply.status).toBe(400);
        } finally {
            await session.query('rollback');
        }
        await server.stop();
    });

    test('a locked table with many new shapes holds up no other table', async () => {
        const server = await suite.another({
            ELECTRIC_DB_POOL_SIZE: '4', ELECTRIC_REPLICATION_STREAM_ID: `${suite.db.streamId}_lock`,
        });
        await server.active();
        const session = await suite.db.session();
        await session.query('begin; lock table items in access exclusive mode');
        const columns = ['id', 'id,a', 'id,b', 'id,c', 'id,d', 'id,a,b', 'id,c,d'];
        try {
            const blocked = columns.map((c) => server.shape({ table: 'items', columns: c, offset: -1 }));
            await sleep(100);
            for (const table of ['other', 'calm']) {
                const reply = await server.shape({ table, offset: -1 }, { timeoutMs: 2_000 });
                expect(reply.status).toBe(200);
            }
            const began = Date.now();
            for (const reply of await Promise.all(blocked)) {
                expect(reply.status).toBe(503);
                expect(reply.json().message).toContain('waiting for a table lock');
            }
            expect(Date.now() - began).toBeLessThan(8_000);
        } finally {
            await session.query('rollback');
        }
        for (const c of columns) expect((await server.shape({ table: 'items', columns: c, offset: -1 })).status).toBe(200);
        await server.stop();
    });

    test('a shape that is removed while it waits for a lock leaves the others waiting for it', async () => {
        const server = await suite.another({
            ELECTRIC_DB_POOL_SIZE: '4', ELECTRIC_REPLICATION_STREAM_ID: `${suite.db.streamId}_gone`,
        });
        await server.active();
        const session = await suite.db.session();
        await session.query('begin; lock table items in access exclusive mode');
        const columns = ['id,a', 'id,b', 'id,c'];
        const waiting = columns.map((c) => server.shape({ table: 'items', columns: c, offset: -1 }));
        await sleep(200);
        for (const c of ['id,a', 'id,b']) {
            await server.get(`/v1/shape?table=items&columns=${c}`, { method: 'DELETE' });
        }
        await session.query('rollback');
        const replies = await Promise.all(waiting);
        expect(replies[2].status).toBe(200);
        for (const reply of replies.slice(0, 2)) expect([200, 409]).toContain(reply.status);
        await server.stop();
    });
});

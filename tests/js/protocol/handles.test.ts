// Handles and definitions: what shares a shape, where a wrong handle leads, what a URL
// returns for ever.
import { describe, expect, test } from 'vitest';
import { until } from '../support/process.js';
import { changesOf, nextEntries, readToEnd } from '../support/shapes.js';
import { useSuite } from '../support/suite.js';

const suite = useSuite('handles', {
    env: { ELECTRIC_SHAPE_CHUNK_BYTES_THRESHOLD: '2000' },
    setup: `
        create table items(id int primary key, v text, n int);
        insert into items values (1, 'a', 1), (2, 'b', 2);
        create table other(id int primary key, v text);
        create table chunky(id int primary key, v text);
        insert into chunky select i, repeat('x', 100) from generate_series(1, 60) i;
        create table quiet(id int primary key);
    `,
});

async function handleOf(params: Record<string, string>): Promise<string> {
    const reply = await suite.server.shape({ ...params, offset: -1 });
    expect(reply.status, reply.text).toBe(200);
    return reply.headers['electric-handle'];
}

describe('the same shape', () => {
    test.each([
        [{ table: 'items', columns: 'id,v' }, { table: 'items', columns: 'v,id' }],
        [{ table: 'items', columns: 'id,v' }, { table: 'public.items', columns: '"v","id"' }],
        [{ table: 'items', columns: 'id,v' }, { table: 'ITEMS', queryable_columns: 'id,v' }],
        [{ table: 'items' }, { table: 'items', queryable_columns: '', columns: ' ' }],
        [{ table: 'items' }, { table: 'items', replica: 'default', log: 'full' }],
        [{ table: 'items' }, { table: 'items', 'cache-buster': '1', secret: 'x', foo: 'bar' }],
        [{ table: 'items' }, { table: 'items', experimental_compaction: 'true' }],
    ] as [Record<string, string>, Record<string, string>][])('%j and %j', async (a, b) => {
        expect(await handleOf(a)).toBe(await handleOf(b));
    });
});

describe('different shapes', () => {
    test.each([
        [{ table: 'items' }, { table: 'items', columns: 'id,v,n' }],
        [{ table: 'items' }, { table: 'items', replica: 'full' }],
        [{ table: 'items' }, { table: 'items', log: 'changes_only' }],
        [{ table: 'items' }, { table: 'other' }],
        [{ table: 'items', columns: 'id,v' }, { table: 'items', columns: 'id,n' }],
    ] as [Record<string, string>, Record<string, string>][])('%j and %j', async (a, b) => {
        expect(await handleOf(a)).not.toBe(await handleOf(b));
    });
});

test("a handle of another definition leads to the definition's own shape, made if need be", async () => {
    const items = await handleOf({ table: 'items' });
    const wrong = await suite.server.shape({
        table: 'items', columns: 'id,n', replica: 'full', offset: '0_0', handle: items,
    });
    expect(wrong.status).toBe(409);
    const right = wrong.headers['electric-handle'];
    expect(right).toBeDefined();
    expect(right).not.toBe(items);
    expect(await handleOf({ table: 'items', columns: 'id,n', replica: 'full' })).toBe(right);
    for (const live of ['true', undefined]) {
        const again = await suite.server.shape({
            table: 'items', columns: 'id,n', replica: 'full', offset: '0_inf', handle: items, live,
        });
        expect(again.status).toBe(409);
        expect(again.headers['electric-handle']).toBe(right);
        expect(again.json()).toEqual([{ headers: { control: 'must-refetch' } }]);
    }
});

test('with -1 and now a foreign handle is ignored', async () => {
    const other = await handleOf({ table: 'other' });
    for (const offset of ['-1', 'now']) {
        const reply = await suite.server.shape({ table: 'items', offset, handle: other });
        expect(reply.status).toBe(200);
        expect(reply.headers['electric-handle']).not.toBe(other);
    }
});

test('an unknown handle of a definition without shape creates it and redirects', async () => {
    const reply = await suite.server.shape({ table: 'quiet', offset: '0_0', handle: '77-1700000000000000' });
    expect(reply.status).toBe(409);
    expect(await handleOf({ table: 'quiet' })).toBe(reply.headers['electric-handle']);
});

test('handles are never used again', async () => {
    const seen = new Set<string>();
    for (let n = 0; n < 15; n++) {
        const handle = await handleOf({ table: 'other' });
        expect(seen.has(handle)).toBe(false);
        seen.add(handle);
        const reply = await suite.server.get(`/v1/shape?handle=${handle}`, { method: 'DELETE' });
        expect(reply.status).toBe(202);
        if (n === 7) {
            await suite.server.restart();
            await suite.server.active();
        }
    }
});

test('a URL of a closed chunk always returns the same body', async () => {
    const first = await readToEnd(suite.server, { table: 'chunky' });
    await suite.db.sql("update chunky set v = repeat('y', 100) where id <= 30");
    await suite.db.sql("insert into chunky values (1000, 'end')");
    const bodies = new Map<string, string>();
    const walk = async (): Promise<void> => {
        let offset = '-1';
        let done = false;
        while (!done) {
            const reply = await suite.server.shape({
                table: 'chunky', offset, handle: offset === '-1' ? undefined : first.handle,
            });
            expect(reply.status).toBe(200);
            done = reply.headers['electric-up-to-date'] !== undefined;
            if (!done) {
                const known = bodies.get(offset);
                if (known !== undefined) expect(reply.text, `chunk after ${offset}`).toBe(known);
                bodies.set(offset, reply.text);
            }
            expect(reply.headers['electric-offset']).not.toBe(offset);
            offset = reply.headers['electric-offset'];
        }
    };
    await until('the last insert', async () => {
        const end = await readToEnd(suite.server, { table: 'chunky' }, first);
        return changesOf(end.messages).some((m) => m.value.id === '1000');
    });
    await walk();
    const chunks = bodies.size;
    expect(chunks).toBeGreaterThan(5);
    await suite.db.sql("update chunky set v = repeat('z', 100)");
    await nextEntries(suite.server, { table: 'chunky' }, await readToEnd(suite.server, { table: 'chunky' })).catch(() => undefined);
    await walk();
    await suite.server.restart();
    await suite.server.active();
    await walk();
    await suite.server.kill9();
    await suite.server.launch();
    await suite.server.active();
    await walk();
    expect(bodies.size).toBeGreaterThan(chunks);
});

test('offsets and handles survive a restart; a shape with only a snapshot stays at 0_inf', async () => {
    const shape = await readToEnd(suite.server, { table: 'quiet' });
    const items = await readToEnd(suite.server, { table: 'items', replica: 'full' });
    await suite.db.sql("insert into items values (50, 'x', 5)");
    const { reply } = await nextEntries(suite.server, { table: 'items', replica: 'full' }, items);
    const offset = reply.headers['electric-offset'];
    await suite.server.restart();
    await suite.server.active();
    const quiet = await readToEnd(suite.server, { table: 'quiet' });
    expect(quiet.handle).toBe(shape.handle);
    expect(quiet.offset).toBe('0_inf');
    const now = await suite.server.shape({ table: 'items', replica: 'full', offset: 'now' });
    expect(now.headers['electric-handle']).toBe(items.handle);
    expect(now.headers['electric-offset']).toBe(offset);
});

test('a request slightly ahead of the log waits and is served', async () => {
    const position = await readToEnd(suite.server, { table: 'items' });
    const [{ lsn }] = await suite.db.sql("select (pg_current_wal_lsn() - '0/0')::bigint as lsn");
    for (const live of [undefined, 'true']) {
        const id = live ? 61 : 60;
        const waiting = suite.server.shape({
            table: 'items', offset: `${BigInt(lsn) + 1n}_0`, handle: position.handle, live,
        });
        if (!live) await new Promise((done) => setTimeout(done, 200));
        await suite.db.sql(`insert into items values (${id}, 'late', 0)`);
        const reply = await waiting;
        expect(reply.status, reply.text).toBe(200);
        expect(changesOf(reply.json()).map((m) => m.value.id)).toContain(String(live ? 60 : id));
    }
});

test('a rotation during the wait for a future offset gives 409', async () => {
    const position = await readToEnd(suite.server, { table: 'other' });
    const waiting = suite.server.shape({
        table: 'other', offset: '99999999999999_0', handle: position.handle,
    });
    await new Promise((done) => setTimeout(done, 200));
    await suite.db.sql('truncate other');
    expect((await waiting).status).toBe(409);
});

// The unmodified npm client: initial sync, live changes, keys, replica modes, columns.
import { afterEach, describe, expect, test } from 'vitest';
import { realClient, stopClients } from '../support/real-client.js';
import { useSuite } from '../support/suite.js';

const suite = useSuite('client_sync', {
    setup: `
        create table items(id int primary key, title text not null, done bool default false, n int8);
        insert into items values (1, 'one', false, 10), (2, 'two', true, null);
        create table empty_one(id int primary key, v text);
        create table comp(b text, a int, v text, primary key (a, b));
        insert into comp values ('x', 1, 'v'), ('x/y', 2, 'w');
        create table nokey(a int, b text);
        insert into nokey values (1, 'x'), (2, ''), (null, null);
        create table moves(id int primary key, v text, w text);
        insert into moves values (1, 'a', 'p'), (2, 'b', 'q');
        create table wide(id int primary key, v text, w text, n int);
        insert into wide values (1, 'a', 'p', 1);
        create table "Odd Name"(id int primary key, "camelCase" text, "com,ma" text);
        insert into "Odd Name" values (1, 'c', 'm');
        create table streamed(id int primary key, v text);
    `,
});

afterEach(stopClients);

for (const liveSse of [false, true]) {
    describe(liveSse ? 'over event streams' : 'over long polls', () => {
        test('initial rows, then an insert, an update and a delete, live', async () => {
            await suite.db.sql("delete from items where id > 2; update items set title = 'two' where id = 2");
            const client = realClient(suite.server.shapeUrl, { table: 'items' }, { liveSse });
            await client.until('two rows', (rows) => rows.length === 2);
            expect(client.sorted()).toEqual([
                { id: 1, title: 'one', done: false, n: 10n },
                { id: 2, title: 'two', done: true, n: null },
            ]);
            await suite.db.sql("insert into items values (3, 'three', null, 9223372036854775807)");
            await client.until('the insert', (rows) => rows.length === 3);
            expect(client.sorted()[2]).toEqual({
                id: 3, title: 'three', done: null, n: 9223372036854775807n,
            });
            await suite.db.sql("update items set title = 'zwei' where id = 2");
            await client.until('the update', (rows) => rows.some((r) => r.title === 'zwei'));
            expect(client.sorted()[1]).toEqual({ id: 2, title: 'zwei', done: true, n: null });
            await suite.db.sql('delete from items where id = 3');
            await client.until('the delete', (rows) => rows.length === 2);
            expect(client.errors).toEqual([]);
            expect(client.statuses.filter((s) => s !== 200)).toEqual([]);
            await suite.db.sql("update items set title = 'two' where id = 2");
        });

        test('a transaction arrives whole and in order', async () => {
            await suite.db.sql('truncate streamed');
            const client = realClient(suite.server.shapeUrl, { table: 'streamed' }, { liveSse });
            await client.upToDate();
            await suite.db.sql(
                `begin; insert into streamed select i, 'v' from generate_series(1, 50) i;
                 update streamed set v = 'w' where id <= 10; delete from streamed where id > 40; commit`,
            );
            await client.until('the transaction', (rows) => rows.length === 40);
            expect(client.rows.filter((r) => r.v === 'w').length).toBe(10);
            const positions = client.changes.map((m) => m.headers.op_position);
            expect(positions).toEqual([...positions].sort((a, b) => a - b));
            expect(new Set(client.changes.map((m) => m.headers.txids[0])).size).toBe(1);
        });
    });
}

test('an empty table syncs to no rows', async () => {
    const client = realClient(suite.server.shapeUrl, { table: 'empty_one' });
    await client.upToDate();
    expect(client.rows).toEqual([]);
    await suite.db.sql("insert into empty_one values (1, 'first')");
    await client.until('the first row', (rows) => rows.length === 1);
});

test('composite keys: parts in index order, slashes doubled', async () => {
    const client = realClient(suite.server.shapeUrl, { table: 'comp' });
    await client.until('the rows', (rows) => rows.length === 2);
    expect([...client.shape.currentValue.keys()].sort()).toEqual([
        '"public"."comp"/"1"/"x"', '"public"."comp"/"2"/"x//y"',
    ]);
    await suite.db.sql("update comp set v = 'changed' where a = 2");
    await client.until('the update', (rows) => rows.some((r) => r.v === 'changed'));
    await suite.db.sql('delete from comp where a = 2');
    await client.until('the delete', (rows) => rows.length === 1);
});

test('a table without a primary key: every column is key, updates move rows', async () => {
    const client = realClient(suite.server.shapeUrl, { table: 'nokey' });
    await client.until('the rows', (rows) => rows.length === 3);
    expect([...client.shape.currentValue.keys()].sort()).toEqual([
        '"public"."nokey"/"1"/"x"', '"public"."nokey"/"2"/""', '"public"."nokey"/_/_',
    ]);
    await suite.db.sql("update nokey set b = 'z' where a = 2");
    await client.until('the update', (rows) => rows.some((r) => r.b === 'z'));
    expect(client.rows.length).toBe(3);
    await suite.db.sql('delete from nokey where a is null');
    await client.until('the delete', (rows) => rows.length === 2);
});

test('key changes: delete and insert that name each other, the row moves', async () => {
    const client = realClient(suite.server.shapeUrl, { table: 'moves' });
    await client.until('the rows', (rows) => rows.length === 2);
    const before = client.changes.length;
    await suite.db.sql("update moves set id = 10, v = 'moved' where id = 1");
    await client.until('the move', (rows) => rows.some((r) => r.id === 10));
    expect(client.sorted()).toEqual([
        { id: 2, v: 'b', w: 'q' }, { id: 10, v: 'moved', w: 'p' },
    ]);
    const [gone, come] = client.changes.slice(before);
    expect(gone.headers.operation).toBe('delete');
    expect(gone.headers.key_change_to).toBe('"public"."moves"/"10"');
    expect(come.headers.operation).toBe('insert');
    expect(come.headers.key_change_from).toBe('"public"."moves"/"1"');
    expect(come.headers.op_position).toBe(gone.headers.op_position + 1);
    expect(come.headers.last).toBe(true);
    expect(gone.headers.last).toBeUndefined();
    await suite.db.sql('begin; update moves set id = 11 where id = 10; update moves set id = 10 where id = 11; commit');
    await suite.db.sql("update moves set w = 'end' where id = 2");
    await client.until('the end', (rows) => rows.some((r) => r.w === 'end'));
    expect(client.sorted().map((r) => r.id)).toEqual([2, 10]);
});

test('replica=default sends only what changed, replica=full whole rows and old values', async () => {
    const diff = realClient(suite.server.shapeUrl, { table: 'wide' });
    const full = realClient(suite.server.shapeUrl, { table: 'wide', replica: 'full' });
    await diff.until('the row', (rows) => rows.length === 1);
    await full.until('the row', (rows) => rows.length === 1);
    await suite.db.sql("update wide set v = 'b', n = null where id = 1");
    await diff.until('the update', (rows) => rows[0].v === 'b');
    await full.until('the update', (rows) => rows[0].v === 'b');
    expect(diff.changes.at(-1).value).toEqual({ id: 1, v: 'b', n: null });
    expect(diff.changes.at(-1).old_value).toBeUndefined();
    expect(full.changes.at(-1).value).toEqual({ id: 1, v: 'b', w: 'p', n: null });
    expect(full.changes.at(-1).old_value).toEqual({ v: 'a', n: 1 });
    expect(diff.rows).toEqual(full.rows);
    await suite.db.sql('delete from wide where id = 1');
    await diff.until('the delete', (rows) => rows.length === 0);
    await full.until('the delete', (rows) => rows.length === 0);
    expect(diff.changes.at(-1).value).toEqual({ id: 1 });
    expect(full.changes.at(-1).value).toEqual({ id: 1, v: 'b', w: 'p', n: null });
    await suite.db.sql("insert into wide values (1, 'a', 'p', 1)");
});

test('columns: only those are sent, changes of others are silent', async () => {
    const client = realClient(suite.server.shapeUrl, { table: 'wide', columns: ['id', 'v'] });
    await client.until('the row', (rows) => rows.length === 1);
    expect(client.rows).toEqual([{ id: 1, v: 'a' }]);
    const before = client.changes.length;
    await suite.db.sql("update wide set w = 'unseen' where id = 1");
    await suite.db.sql("update wide set v = 'seen', w = 'too' where id = 1");
    await client.until('the update', (rows) => rows[0].v === 'seen');
    expect(client.changes.length).toBe(before + 1);
    expect(client.changes.at(-1).value).toEqual({ id: 1, v: 'seen' });
});

test('quoted names of tables and columns', async () => {
    const client = realClient(suite.server.shapeUrl, {
        table: '"Odd Name"', columns: ['id', 'camelCase', 'com,ma'],
    });
    await client.until('the row', (rows) => rows.length === 1);
    expect(client.rows).toEqual([{ id: 1, camelCase: 'c', 'com,ma': 'm' }]);
    await suite.db.sql(`update "Odd Name" set "com,ma" = 'n'`);
    await client.until('the update', (rows) => rows[0]['com,ma'] === 'n');
});

test('changes_only starts without rows and still follows', async () => {
    await suite.db.sql("insert into empty_one values (50, 'before') on conflict do nothing");
    const client = realClient(suite.server.shapeUrl, { table: 'empty_one' }, { log: 'changes_only' });
    await client.upToDate();
    expect(client.changes).toEqual([]);
    await suite.db.sql("insert into empty_one values (51, 'after')");
    await client.until('the insert', () => client.changes.length === 1);
    expect(client.changes[0].value).toEqual({ id: 51, v: 'after' });
});

test('offset=now skips what was before', async () => {
    const other = realClient(suite.server.shapeUrl, { table: 'empty_one' });
    await other.upToDate();
    await suite.db.sql("insert into empty_one values (60, 'old') on conflict do nothing");
    await other.until('the old row', (rows) => rows.some((r) => r.id === 60));
    const client = realClient(suite.server.shapeUrl, { table: 'empty_one' }, { offset: 'now' });
    await client.upToDate();
    expect(client.rows).toEqual([]);
    await suite.db.sql("insert into empty_one values (61, 'new')");
    await client.until('the insert', (rows) => rows.length === 1);
    expect(client.rows).toEqual([{ id: 61, v: 'new' }]);
});

test('subscribe: false ends when up to date', async () => {
    const client = realClient(suite.server.shapeUrl, { table: 'items' }, { subscribe: false });
    await client.upToDate();
    expect(client.requests.some((r) => r.includes('live='))).toBe(false);
});

test('a client that resumes with handle and offset gets only what it missed', async () => {
    const first = realClient(suite.server.shapeUrl, { table: 'items' });
    await first.until('rows', (rows) => rows.length >= 2);
    const { lastOffset, shapeHandle } = first.stream;
    first.stop();
    await suite.db.sql("insert into items values (77, 'missed', false, 0)");
    const second = realClient(suite.server.shapeUrl, { table: 'items' }, {
        offset: lastOffset, handle: shapeHandle,
    });
    await second.until('the missed row', (rows) => rows.length === 1);
    expect(second.rows[0].title).toBe('missed');
    await suite.db.sql('delete from items where id = 77');
});

test('many clients of one shape all see one change', async () => {
    const clients = Array.from({ length: 20 }, () =>
        realClient(suite.server.shapeUrl, { table: 'items' }));
    await Promise.all(clients.map((c) => c.upToDate()));
    await suite.db.sql("insert into items values (88, 'to all', false, 0)");
    await Promise.all(clients.map((c) => c.until('the row', (rows) => rows.some((r) => r.id === 88))));
    expect(new Set(clients.map((c) => c.stream.shapeHandle)).size).toBe(1);
    await suite.db.sql('delete from items where id = 88');
});

// Large values and unchanged out-of-line (TOAST) values, with the npm client.
import { createHash } from 'node:crypto';
import { afterEach, expect, test } from 'vitest';
import { realClient, stopClients } from '../support/real-client.js';
import { useSuite } from '../support/suite.js';

const MB = 1024 * 1024;

const suite = useSuite('client_large', {
    setup: `
        create table blobs(id int primary key, b bytea, t text, n int);
        alter table blobs alter b set storage external, alter t set storage external;
        create table toasted(id int primary key, big text, v text);
        alter table toasted alter big set storage external;
        create table wide_key(k text primary key, v text);
        create function noise(mb int, salt text) returns bytea language sql as $$
            select string_agg(decode(repeat(md5(salt || i), 64), 'hex'), '' order by i)
            from generate_series(1, mb * 1024) i $$;
    `,
});

afterEach(stopClients);

const hash = (text: string): string => createHash('sha256').update(text).digest('hex');

test('10 MB of bytea and text in the snapshot and in an update', async () => {
    await suite.db.sql("insert into blobs values (1, noise(10, 'a'), encode(noise(5, 'b'), 'hex'), 0)");
    const client = realClient(suite.server.shapeUrl, { table: 'blobs' });
    await client.until('the row', (rows) => rows.length === 1, 60_000);
    let [truth] = await suite.db.sql('select b, t from blobs');
    expect(truth.b.length).toBe(2 + 20 * MB);
    expect(hash(client.rows[0].b)).toBe(hash(truth.b));
    expect(hash(client.rows[0].t)).toBe(hash(truth.t));
    await suite.db.sql("update blobs set b = noise(10, 'c'), n = 1");
    await client.until('the update', (rows) => rows[0].n === 1, 60_000);
    [truth] = await suite.db.sql('select b, t from blobs');
    expect(hash(client.rows[0].b)).toBe(hash(truth.b));
    expect(hash(client.rows[0].t)).toBe(hash(truth.t));
}, 120_000);

test('an unchanged out-of-line value never shows as a placeholder', async () => {
    await suite.db.sql("insert into toasted values (1, repeat('x', 100000), 'a')");
    const diff = realClient(suite.server.shapeUrl, { table: 'toasted' });
    const full = realClient(suite.server.shapeUrl, { table: 'toasted', replica: 'full' });
    await diff.until('the row', (rows) => rows.length === 1);
    await full.until('the row', (rows) => rows.length === 1);
    await suite.db.sql("update toasted set v = 'b'");
    await diff.until('the update', (rows) => rows[0].v === 'b');
    await full.until('the update', (rows) => rows[0].v === 'b');
    expect(diff.changes.at(-1).value).toEqual({ id: 1, v: 'b' });
    expect(full.changes.at(-1).value).toEqual({ id: 1, v: 'b', big: 'x'.repeat(100000) });
    expect(full.changes.at(-1).old_value).toEqual({ v: 'a' });
    await suite.db.sql('update toasted set id = 2');
    await diff.until('the key change', (rows) => rows[0]?.id === 2);
    expect(diff.rows[0].big).toBe('x'.repeat(100000));
    await suite.db.sql('delete from toasted');
    await full.until('the delete', (rows) => rows.length === 0);
    expect(full.changes.at(-1).value).toEqual({ id: 2, v: 'b', big: 'x'.repeat(100000) });
});

test('a key of several kilobytes, with every awkward character', async () => {
    await suite.db.sql(`insert into wide_key values (repeat('k/"\\ü', 400), 'a')`);
    const client = realClient(suite.server.shapeUrl, { table: 'wide_key' });
    await client.until('the row', (rows) => rows.length === 1);
    await suite.db.sql("update wide_key set v = 'b'");
    await client.until('the update', (rows) => rows[0].v === 'b');
    expect(client.rows.length).toBe(1);
    expect(client.rows[0].k).toBe('k/"\\ü'.repeat(400));
});

test('a transaction of 20,000 rows arrives complete', async () => {
    await suite.db.sql('create table many(id int primary key, v text)');
    const client = realClient(suite.server.shapeUrl, { table: 'many' });
    await client.upToDate();
    await suite.db.sql("insert into many select i, 'value ' || i from generate_series(1, 20000) i");
    await client.until('the rows', (rows) => rows.length === 20000, 60_000);
    const fresh = realClient(suite.server.shapeUrl, { table: 'many' });
    await fresh.until('the rows by snapshot and log', (rows) => rows.length === 20000, 60_000);
}, 120_000);

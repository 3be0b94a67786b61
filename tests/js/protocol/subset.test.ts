// Subsets over raw HTTP: parameters by GET and POST, the answer's class, what Postgres finds
// wrong, pages, and offsets.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { Reply } from '../support/http.js';
import { sleep, until } from '../support/process.js';
import { changesOf, nextEntries, readToEnd, untilStatus } from '../support/shapes.js';
import { useSuite } from '../support/suite.js';

const suite = useSuite('subset', {
    setup: `
        create type mood as enum ('sad', 'ok');
        create table items(id int primary key, v text, n int, m mood, secret int);
        insert into items values (1, 'a', 5, 'ok', 7), (2, 'b', 4, 'sad', 7), (3, 'c', 3, 'ok', 7),
            (4, null, 2, null, 7), (5, 'o''k', 1, 'ok', 7);
        create table kinds(id int primary key, b bool, t timestamptz, f float8, y bytea, i interval,
            j json, a text[], p point);
        insert into kinds values (1, true, '2024-01-02 03:04:05.6+02', 0.1::float8 + 0.2, '\\x00ff',
            '1 day 2 hours', '{"a": 1}', '{a,"b,c"}', '(1,2)');
        create table failing(id int primary key, n int, s text);
        insert into failing values (1, 1, '1'), (2, 0, 'x');
        create table large(id int primary key, v text);
        insert into large select i, repeat('x', 500) from generate_series(1, 60000) i;
        create table mine(id int primary key);
        create table "Odd Name"(id int primary key, "we""ird" text);
        insert into "Odd Name" values (1, 'b'), (2, 'a');
    `,
});

type Params = Record<string, string | number>;

const items = { table: 'items', offset: '-1', log: 'changes_only' };

const get = (subset: Params, shape: Params = items): Promise<Reply> =>
    suite.server.shape({
        ...shape,
        ...Object.fromEntries(Object.entries(subset).map(([k, v]) => [`subset__${k}`, v])),
    });

const post = (body: unknown, shape: Params = items): Promise<Reply> =>
    suite.server.shape(shape, { method: 'POST', body });

const idsOf = (reply: Reply): number[] => {
    if (reply.status !== 200) throw new Error(`status ${reply.status}: ${reply.text}`);
    return reply.json().data.map((m: any) => Number(m.value.id));
};

const errorOf = (reply: Reply): any => {
    expect([reply.status, reply.headers['cache-control'], reply.headers['surrogate-control']])
        .toEqual([400, 'no-store', 'no-store']);
    const { message, errors } = reply.json();
    expect(message).toBe('Invalid request');
    return errors.subset;
};

describe('the answer', () => {
    test('has metadata and snapshot rows, and is never cached', async () => {
        const reply = await get({ where: 'n > 2', order_by: 'id' });
        const { headers } = reply;
        expect(headers['cache-control']).toBe('no-cache');
        expect(headers['content-type']).toBe('application/json; charset=utf-8');
        expect(headers['transfer-encoding']).toBe('chunked');
        expect(headers['electric-snapshot']).toBe('true');
        expect(headers['electric-offset']).toBe('0_0');
        expect(headers['electric-handle']).toMatch(/^\d+-\d+$/);
        expect(JSON.parse(headers['electric-schema']).id).toEqual({
            type: 'int4', not_null: true, pk_index: 0,
        });
        for (const name of ['etag', 'electric-has-data', 'electric-up-to-date', 'electric-cursor']) {
            expect(headers[name], name).toBeUndefined();
        }
        const { metadata, data } = reply.json();
        expect(Object.keys(metadata).sort()).toEqual(
            ['database_lsn', 'snapshot_mark', 'xip_list', 'xmax', 'xmin']);
        expect(Number.isInteger(metadata.snapshot_mark)).toBe(true);
        expect(metadata.snapshot_mark).toBeGreaterThanOrEqual(0);
        expect(metadata.snapshot_mark).toBeLessThan(2 ** 31);
        for (const name of ['database_lsn', 'xmin', 'xmax']) {
            expect(metadata[name], name).toMatch(/^\d+$/);
        }
        expect(metadata.xip_list).toEqual([]);
        expect(data[0]).toEqual({
            key: '"public"."items"/"1"',
            value: { id: '1', v: 'a', n: '5', m: 'ok', secret: '7' },
            headers: {
                operation: 'insert', relation: ['public', 'items'],
                snapshot_mark: metadata.snapshot_mark,
            },
        });
        expect(idsOf(reply)).toEqual([1, 2, 3]);
    });

    test('is the same by GET and POST', async () => {
        const byGet = await get({ where: 'n > $1', params: '{"1":"2"}', order_by: 'n', limit: 2 });
        const byPost = await post({ where: 'n > $1', params: { 1: 2 }, order_by: 'n', limit: 2 });
        const asObject = await post({
            subset: { where: 'n > $1', params: { 1: '2' }, order_by: 'n', limit: '2' },
        });
        for (const reply of [byGet, byPost, asObject]) {
            expect(idsOf(reply)).toEqual([3, 2]);
            expect(reply.headers['electric-schema']).toBe(byGet.headers['electric-schema']);
            expect(reply.headers['electric-handle']).toBe(byGet.headers['electric-handle']);
            expect(reply.headers['cache-control']).toBe('no-cache');
        }
    });

    test('to HEAD is its headers', async () => {
        const reply = await suite.server.shape(
            { ...items, subset__where: 'n > 2' }, { method: 'HEAD' });
        expect([reply.status, reply.text]).toEqual([200, '']);
        expect(reply.headers['electric-snapshot']).toBe('true');
        expect(reply.headers['electric-offset']).toBe('0_0');
    });

    test('knows no If-None-Match', async () => {
        const first = await get({ limit: 1, order_by: 'id' });
        const reply = await suite.server.shape(
            { ...items, subset__limit: 1, subset__order_by: 'id' },
            { headers: { 'if-none-match': `"${first.headers['electric-handle']}:-1:0_0"` } });
        expect(reply.status).toBe(200);
    });

    test('has values as the log has them, whatever the database is set to', async () => {
        await suite.db.sql(`alter database ${suite.db.name} set datestyle = 'German';
            alter database ${suite.db.name} set timezone = 'Asia/Tokyo';
            alter database ${suite.db.name} set bytea_output = 'escape';
            alter database ${suite.db.name} set extra_float_digits = -3;
            alter database ${suite.db.name} set intervalstyle = 'sql_standard'`);
        const kinds = { table: 'kinds', offset: '-1' };
        const log = await readToEnd(suite.server, { table: 'kinds' });
        const subset = await get({ where: 'id = 1' }, kinds);
        expect(subset.json().data[0].value).toEqual(changesOf(log.messages)[0].value);
        expect(subset.json().data[0].key).toEqual(changesOf(log.messages)[0].key);
        expect(subset.json().data[0].value).toMatchObject({
            b: 't', t: '2024-01-02 01:04:05.6+00', f: '0.30000000000000004', y: '\\x00ff',
        });
        await suite.db.sql(`alter database ${suite.db.name} reset all`);
    });

    test('of live requests comes at once, without cursor', async () => {
        const at = await readToEnd(suite.server, { table: 'items', log: 'changes_only' });
        for (const extra of [{ live: 'true' }, { live: 'true', live_sse: 'true' }] as Params[]) {
            const reply = await get({ where: 'id = 1' }, {
                ...items, offset: at.offset, handle: at.handle, ...extra,
            });
            expect(idsOf(reply)).toEqual([1]);
            expect(reply.headers['content-type']).toBe('application/json; charset=utf-8');
            expect(reply.headers['electric-cursor']).toBeUndefined();
            expect(reply.headers['electric-offset']).toBe(at.offset);
            expect(reply.tookMs).toBeLessThan(1_500);
        }
    });
});

describe('what is asked for', () => {
    test('any subset__ name makes a subset', async () => {
        for (const subset of [{ foo: 1 }, { where: '' }, { limit: '', order_by: '' },
            { where_expr: '{}' }] as Params[]) {
            expect(idsOf(await get(subset)).length).toBe(5);
        }
        const log = await suite.server.shape({ ...items, subset_where: 'x', subset: 'x' });
        expect(Array.isArray(log.json())).toBe(true);
    });

    test("the body's subset goes over the query's", async () => {
        const shape = { ...items, subset__where: 'n = 1' };
        expect(idsOf(await post({ order_by: 'n', limit: 1 }, shape))).toEqual([5]);
        expect(idsOf(await post({ subset: { order_by: 'n', limit: 1 } }, shape))).toEqual([5]);
        expect(idsOf(await post({ subset: { where: 'n = 2' } }, shape))).toEqual([4]);
        expect(idsOf(await post({ where: null }, shape)).length).toBe(5);
    });

    test('beside a subset other members are the shape\'s', async () => {
        const reply = await post({
            subset: { where: 'n > 3' }, where: 'n < $1', params: { 1: '5' }, table: 'items',
            offset: 'now', columns: ['id', 'n'],
        }, {});
        expect(reply.json().data.map((m: any) => m.value)).toEqual([{ id: '2', n: '4' }]);
        const flat = await post({ table: 'items', offset: '-1' }, {});
        expect(flat.json().errors).toEqual({ offset: ["can't be blank"] });
    });

    test('both clauses hold, each with its own parameters', async () => {
        const shape = { ...items, where: 'n = 5 OR n = $1', 'params[1]': 4 };
        expect(idsOf(await get({ where: 'id = 3' }, shape))).toEqual([]);
        expect(idsOf(await get({ where: 'id = 1 OR id = $1', params: '{"1":2}', order_by: 'id' }, shape)))
            .toEqual([1, 2]);
        const at = await readToEnd(suite.server, { table: 'items', log: 'changes_only', where: 'n > 1' });
        const again = { ...items, where: 'n > 1', offset: at.offset, handle: at.handle };
        expect(idsOf(await get({ where: 'id > 2', order_by: 'id' }, again))).toEqual([3, 4]);
    });

    test('pages are in order and of their size', async () => {
        expect(idsOf(await get({ order_by: 'n', limit: 2 }))).toEqual([5, 4]);
        expect(idsOf(await get({ order_by: 'n DESC', limit: 2, offset: 1 }))).toEqual([2, 3]);
        expect(idsOf(await get({ order_by: 'v NULLS FIRST, id DESC' }))).toEqual([4, 1, 2, 3, 5]);
        expect(idsOf(await get({ order_by: 'v DESC' }))).toEqual([4, 5, 3, 2, 1]);
        expect(idsOf(await get({ order_by: 'id', offset: 4 }))).toEqual([5]);
        expect(idsOf(await get({ order_by: 'id', offset: 9 }))).toEqual([]);
        expect(idsOf(await get({ order_by: 'n USING >', limit: 1 }))).toEqual([1]);
        expect(idsOf(await get({ order_by: 'm, id' }))).toEqual([2, 1, 3, 5, 4]);
        expect(idsOf(await get({ order_by: '2 DESC', limit: 1 }, { ...items, columns: 'id,n' })))
            .toEqual([1]);
        expect(idsOf(await get({ order_by: 'id', limit: '9223372036854775807' })).length).toBe(5);
    });

    test('names are quoted', async () => {
        const reply = await get(
            { order_by: '"we""ird"', where: '"we""ird" <> \'c\'' }, { table: '"Odd Name"', offset: '-1' });
        expect(idsOf(reply)).toEqual([2, 1]);
    });

    test('only queryable columns may be asked about', async () => {
        const shape = { ...items, queryable_columns: 'id,v', columns: 'id' };
        expect(idsOf(await get({ where: "v = 'a'", order_by: 'v' }, shape))).toEqual([1]);
        expect(errorOf(await get({ where: 'n = 1' }, shape)))
            .toEqual({ where: ['At location 0: unknown reference n'] });
        expect(errorOf(await get({ where: 'v IS NULL AND secret = 7' }, shape)))
            .toEqual({ where: ['At location 14: unknown reference secret'] });
        expect(errorOf(await get({ order_by: 'id, secret' }, shape)))
            .toEqual({ order_by: ['At location 22: unknown reference secret'] });
    });
});

describe('what is refused', () => {
    test('clauses, with their reason', async () => {
        expect(errorOf(await get({ where: 'n' })))
            .toEqual({ where: ['WHERE clause must return a boolean'] });
        expect(errorOf(await get({ where: 'id IN (SELECT id FROM items)' })))
            .toEqual({ where: ['Subqueries are not allowed in subsets'] });
        expect(errorOf(await get({ where: 'n = $1' })))
            .toEqual({ where: ['At location 4: parameter $1 was not provided'] });
        expect(errorOf(await get({ where: 'true) OR (true' }))).toHaveProperty('where');
        expect(errorOf(await get({ where: 'pg_sleep(100) IS NULL' }))).toHaveProperty('where');
        expect(errorOf(await get({ order_by: 'n; drop table items' })))
            .toEqual({ order_by: ['Unexpected `;` in order by'] });
        expect(errorOf(await get({ order_by: 'pg_sleep(100)' }))).toHaveProperty('order_by');
        expect(errorOf(await get({ limit: 2 })))
            .toEqual({ order_by: ['order_by is required when limit or offset is present'] });
    });

    test('the shape is judged first, and none is made for a bad subset', async () => {
        const both = await get({ where: 'nope2 = 1' }, { ...items, where: 'nope = 1' });
        expect(both.json().errors).toEqual({ where: ['At location 0: unknown reference nope'] });
        await get({ where: 'nope = 1' }, { ...items, where: 'n = 123456' });
        const made = await suite.server.shape({ ...items, where: 'n = 123456' }, { method: 'DELETE' });
        expect(made.status).toBe(404);
    });

    test('texts that are too long, wherever they come from', async () => {
        const long = Array.from({ length: 4_000 }, (_, i) => `n = ${i}`).join(' OR ');
        const reply = await post({ where: long });
        expect(errorOfPost(reply).where[0]).toContain('bigger than maximum size');
        const literal = await post({ where: `v = '${'x'.repeat(70_000)}'` });
        expect(errorOfPost(literal).where[0]).toContain('bigger than maximum size');
        const order = await post({ order_by: 'n,'.repeat(20_000) });
        expect(errorOfPost(order).order_by[0]).toContain('bigger than maximum size');
        expect(idsOf(await post({ where: 'v = $1', params: { 1: 'x'.repeat(70_000) } }))).toEqual([]);
    });

    function errorOfPost(reply: Reply): any {
        expect([reply.status, reply.headers['cache-control']]).toEqual([400, 'no-cache']);
        return reply.json().errors.subset;
    }

    test('what only Postgres can find, in its words', async () => {
        expect(errorOf(await get({ where: "m = 'nope'" })))
            .toEqual({ where: 'invalid input value for enum mood: "nope"' });
        expect(errorOf(await get({ where: 'm = $1', params: '{"1":"nope"}' })))
            .toEqual({ where: 'invalid input value for enum mood: "nope"' });
        const failing = { table: 'failing', offset: '-1' };
        expect(errorOf(await get({ where: '10 / n > 1' }, failing)))
            .toEqual({ where: 'division by zero' });
        expect(errorOf(await get({ where: 's::int > 0' }, failing)))
            .toEqual({ where: 'invalid input syntax for type integer: "x"' });
        expect(errorOf(await get({ order_by: 'j' }, { table: 'kinds', offset: '-1' })))
            .toEqual({ order_by: 'could not identify an ordering operator for type json' });
    });

    test('a label that is new to the enum is taken at once', async () => {
        await suite.db.sql("alter type mood add value 'happy'");
        await suite.db.sql("insert into items values (6, 'h', 6, 'happy', 7)");
        expect(idsOf(await get({ where: "m = 'happy'" }))).toEqual([6]);
        await suite.db.sql('delete from items where id = 6');
    });

    test('an unknown handle is a 409 with the new one', async () => {
        const reply = await get({ where: 'id = 1' }, { ...items, offset: '0_0', handle: '1-1' });
        expect(reply.status).toBe(409);
        expect(reply.json()).toEqual([{ headers: { control: 'must-refetch' } }]);
        const handle = reply.headers['electric-handle'];
        const again = await get({ where: 'id = 1' }, { ...items, offset: '0_0', handle });
        expect([idsOf(again), again.headers['electric-handle']]).toEqual([[1], handle]);
        const blank = await get({ where: 'id = 1' }, { ...items, offset: '0_0' });
        expect(blank.json().errors).toEqual({ handle: ["can't be blank when offset != -1"] });
    });

    test('of a shape whose snapshot fails nothing is shown', async () => {
        await suite.db.sql(
            `create publication electric_publication_${suite.db.streamId}_manual`);
        const other = await suite.another({
            ELECTRIC_MANUAL_TABLE_PUBLISHING: 'true',
            ELECTRIC_REPLICATION_STREAM_ID: `${suite.db.streamId}_manual`,
        });
        await other.active();
        const reply = await other.shape({
            table: 'mine', offset: 'now', subset__limit: 1, subset__order_by: 'id',
        });
        expect([reply.status, reply.headers['retry-after']]).toEqual([503, '10']);
        expect(reply.json().message).toContain('is missing from the publication');
        await other.close();
    });
});

describe('the offset', () => {
    const log = { table: 'items', log: 'changes_only', where: 'id > 0' };
    const ask = (offset: string, handle?: string): Promise<Reply> =>
        suite.server.shape({
            ...log, offset, ...(handle ? { handle } : {}), subset__where: 'id = 1',
        });
    const told = async (offset: string, handle?: string): Promise<string> => {
        const reply = await ask(offset, handle);
        if (reply.status !== 200) throw new Error(`status ${reply.status}: ${reply.text}`);
        return reply.headers['electric-offset'];
    };

    test('is the one that the client came with; of now, the end of the log', async () => {
        const empty = await readToEnd(suite.server, log);
        expect(await told('-1')).toBe('0_0');
        expect(await told('now')).toBe('0_inf');
        expect(await told('0_0', empty.handle)).toBe('0_0');
        await suite.db.sql("update items set v = 'z' where id = 1");
        const { reply } = await nextEntries(suite.server, log, empty);
        const end = reply.headers['electric-offset'];
        expect(await told('-1', empty.handle)).toBe('0_0');
        expect(await told('0_inf', empty.handle)).toBe('0_inf');
        expect(await told('now', empty.handle)).toBe(end);
        expect(await told(end, empty.handle)).toBe(end);
    });

    test('beyond the log is neither waited for nor refused', async () => {
        const at = await readToEnd(suite.server, log);
        const reply = await ask('99999999999999_0', at.handle);
        expect([reply.status, reply.headers['electric-offset']]).toEqual([200, at.offset]);
        expect(reply.tookMs).toBeLessThan(900);
    });
});

describe('much of it', () => {
    const rssKb = (): number => Number(
        /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${suite.server.pid}/status`, 'utf8'))![1]);
    const busy = async (): Promise<number> => {
        const [{ count }] = await suite.db.sql(
            `select count(*) as count from pg_stat_activity
             where datname = current_database() and query like 'COPY (SELECT%"large"%'
               and state = 'active'`);
        return Number(count);
    };

    test('comes whole', async () => {
        const reply = await get({ where: 'id > 10', order_by: 'id DESC' }, { table: 'large', offset: '-1' });
        const ids = idsOf(reply);
        expect(ids.length).toBe(59_990);
        expect(ids[0]).toBe(60_000);
        expect(new Set(ids).size).toBe(59_990);
    });

    test('waits for a reader in little memory, and another is served meanwhile', async () => {
        const before = rssKb();
        const slow = Array.from({ length: 4 }, () => suite.server.open({
            table: 'large', offset: '-1', subset__order_by: 'id',
        }));
        for (const one of slow) {
            await one.opened;
            one.pause();
        }
        await until('all four to wait', async () => (await busy()) === 4);
        await sleep(500);
        expect(await busy()).toBe(4);
        expect(rssKb() - before).toBeLessThan(40_000);
        expect(idsOf(await get({ where: 'id = 1' }))).toEqual([1]);
        for (const one of slow) one.resume();
        for (const one of slow) await one.ended;
        for (const one of slow) expect(JSON.parse(one.text).data.length).toBe(60_000);
        await until('the connections to be free', async () => (await busy()) === 0);
    });

    test('that nobody waits for is not read', async () => {
        const gone = suite.server.open({ table: 'large', offset: '-1', subset__order_by: 'v' });
        await gone.opened;
        gone.pause();
        await until('the query to run', async () => (await busy()) === 1);
        gone.leave();
        await until('the query to be cancelled', async () => (await busy()) === 0, 3_000);
        // One that has not begun to answer: it waits for a lock.
        const session = await suite.db.session();
        await session.query('begin; lock table large in access exclusive mode');
        const waiting = suite.server.open({ table: 'large', offset: '-1', subset__limit: 1, subset__order_by: 'id' });
        const locks = async (): Promise<number> => Number((await suite.db.sql(
            `select count(*) as count from pg_stat_activity
             where datname = current_database() and wait_event_type = 'Lock'`))[0].count);
        await until('it to wait', async () => (await locks()) === 1);
        waiting.leave();
        await until('it to be cancelled', async () => (await locks()) === 0, 3_000);
        await session.query('rollback');
        expect(idsOf(await get({ limit: 1, order_by: 'id' }, { table: 'large', offset: '-1' }))).toEqual([1]);
    });

    test('a table that was replaced is not shown under the old handle', async () => {
        await suite.db.sql('create table swap(id int primary key, v text); insert into swap values (1, \'a\')');
        const swap = { table: 'swap', offset: '-1' };
        const first = await get({ where: 'id = 1' }, swap);
        const handle = first.headers['electric-handle'];
        await suite.db.sql('alter table swap drop column v');
        const reply = await get({ where: 'id = 1' }, { ...swap, handle, offset: '0_inf' });
        expect([409, 503]).toContain(reply.status);
        if (reply.status === 503) expect(reply.headers['retry-after']).toBe('10');
        // No change follows, and the next look at the catalog would be in a minute.
        await untilStatus(suite.server, { ...swap, handle, offset: '0_inf', subset__where: 'id = 1' }, 409);
    });
});

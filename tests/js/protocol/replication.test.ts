// The attachment to Postgres: slot, publication, lock, acknowledgement, loss and repair.
import { afterEach, describe, expect, test } from 'vitest';
import { Follower } from '../support/follower.js';
import { sleep, until } from '../support/process.js';
import { readToEnd, untilRows, untilStatus } from '../support/shapes.js';
import { useSuite } from '../support/suite.js';

const suite = useSuite('replication', {
    env: {
        ELECTRIC_TWEAKS_PUBLICATION_REFRESH_PERIOD: '1s',
        ELECTRIC_TWEAKS_SCHEMA_RECONCILER_PERIOD: '1s',
    },
    setup: `
        create table items(id int primary key, v text); insert into items values (1, 'a');
        create table second(id int primary key, v text);
    `,
});

const followers: Follower[] = [];
afterEach(async () => {
    for (const follower of followers.splice(0)) await follower.stop();
});

function follow(table: string): Follower {
    const follower = new Follower(() => suite.server.url, { table }).start();
    followers.push(follower);
    return follower;
}

const items = (): Promise<any[]> => suite.db.sql('select * from items');

async function published(): Promise<string[]> {
    const rows = await suite.db.sql(
        `select tablename from pg_publication_tables where pubname = '${suite.db.publication}' order by 1`,
    );
    return rows.map((r) => r.tablename);
}

async function slot(): Promise<any> {
    const [row] = await suite.db.sql(
        `select active, confirmed_flush_lsn - '0/0' as flushed, plugin, temporary
         from pg_replication_slots where slot_name = '${suite.db.slot}'`,
    );
    return row;
}

test('slot and publication are named after the stream and made at the start', async () => {
    expect(await slot()).toMatchObject({ active: 't', plugin: 'pgoutput', temporary: 'f' });
    const [row] = await suite.db.sql(
        `select pubinsert, pubupdate, pubdelete, pubtruncate, puballtables
         from pg_publication where pubname = '${suite.db.publication}'`,
    );
    expect(row).toEqual({
        pubinsert: 't', pubupdate: 't', pubdelete: 't', pubtruncate: 't', puballtables: 'f',
    });
});

test('a table is published with full identity for its first shape, and leaves with its last', async () => {
    expect(await published()).not.toContain('second');
    await readToEnd(suite.server, { table: 'second' });
    await readToEnd(suite.server, { table: 'second', columns: 'id' });
    expect(await published()).toContain('second');
    const [row] = await suite.db.sql("select relreplident from pg_class where relname = 'second'");
    expect(row.relreplident).toBe('f');
    await suite.server.get('/v1/shape?table=second', { method: 'DELETE' });
    await sleep(300);
    expect(await published()).toContain('second');
    await suite.server.get('/v1/shape?table=second&columns=id', { method: 'DELETE' });
    await until('the table to leave the publication', async () => !(await published()).includes('second'));
    await readToEnd(suite.server, { table: 'second' });
    expect(await published()).toContain('second');
});

test('what an earlier run left in the publication and no shape needs leaves it at the start', async () => {
    await suite.db.sql(`
        create table family(id int primary key);
        create table child() inherits (family);
        create table left_over(id int primary key)`);
    await readToEnd(suite.server, { table: 'family' });
    await suite.server.stop();
    await suite.db.sql(`alter publication ${suite.db.publication} add table left_over`);
    expect(await published()).toEqual(expect.arrayContaining(['family', 'child', 'left_over']));
    await suite.server.launch();
    await suite.server.active();
    await until('the table to leave', async () => !(await published()).includes('left_over'));
    expect(await published()).toEqual(expect.arrayContaining(['family', 'child']));
    const shape = await readToEnd(suite.server, { table: 'left_over' });
    expect(await published()).toContain('left_over');
    await suite.server.get('/v1/shape?table=family', { method: 'DELETE' });
    await until('the family to leave', async () => !(await published()).includes('family'));
    // Once at a start, not at every look.
    await suite.db.sql(`alter publication ${suite.db.publication} add table only family`);
    await sleep(1_500);
    expect(await published()).toContain('family');
    expect((await readToEnd(suite.server, { table: 'left_over' })).handle).toBe(shape.handle);
});

test('with manual publishing the publication is left alone', async () => {
    const id = `${suite.db.streamId}_manual`;
    await suite.db.sql(`create publication electric_publication_${id} for table second`);
    const server = await suite.another({
        ELECTRIC_REPLICATION_STREAM_ID: id, ELECTRIC_MANUAL_TABLE_PUBLISHING: 'true',
    });
    await server.active();
    await sleep(1_500);
    const rows = await suite.db.sql(`select tablename from pg_publication_tables where pubname = 'electric_publication_${id}'`);
    expect(rows.map((r) => r.tablename)).toEqual(['second']);
    await server.stop();
});

test('the confirmed position advances with use and while idle', async () => {
    await suite.db.sql(`alter database ${suite.db.name} set wal_sender_timeout = '3s'`);
    await suite.server.restart();
    await suite.server.active();
    const follower = follow('items');
    await suite.db.sql("update items set v = 'advance' where id = 1");
    await untilRows(follower, items);
    const [{ lsn }] = await suite.db.sql("select pg_current_wal_lsn() - '0/0' as lsn");
    await until('the position to pass the change', async () => BigInt((await slot()).flushed) >= BigInt(lsn), 20_000, 100);
    // WAL that concerns no shape.
    await suite.db.sql('create table unpublished as select generate_series(1, 10000) i');
    const [{ lsn: later }] = await suite.db.sql("select pg_current_wal_lsn() - '0/0' as lsn");
    await until('the idle position to follow', async () => BigInt((await slot()).flushed) >= BigInt(later), 20_000, 100);
});

test('a quiet connection outlives wal_sender_timeout', async () => {
    const [before] = await suite.db.sql(`select active_pid from pg_replication_slots where slot_name = '${suite.db.slot}'`);
    await sleep(4_500);
    const [after] = await suite.db.sql(`select active_pid from pg_replication_slots where slot_name = '${suite.db.slot}'`);
    expect(after.active_pid).toBe(before.active_pid);
    const follower = follow('items');
    await suite.db.sql("update items set v = 'still there' where id = 1");
    await untilRows(follower, items);
});

test('a terminated replication connection comes back, nothing is lost, handles stay', async () => {
    const follower = follow('items');
    await untilRows(follower, items);
    const handle = follower.handle;
    for (let n = 0; n < 3; n++) {
        await suite.db.sql(
            `select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '${suite.db.slot}'`,
        );
        await suite.db.sql(`insert into items values (${100 + n}, 'while away')`);
        await untilRows(follower, items, 30_000);
    }
    expect(follower.handle).toBe(handle);
});

test('all sessions of the server terminated: it recovers', async () => {
    const follower = follow('items');
    await untilRows(follower, items);
    await suite.db.sql(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = '${suite.db.name}' and pid <> pg_backend_pid()`,
    );
    await suite.db.sql("insert into items values (200, 'after')");
    await untilRows(follower, items, 30_000);
    await until('snapshots to work again', async () =>
        (await suite.server.shape({ table: 'second', replica: 'full', offset: -1 })).status === 200, 30_000, 200);
});

test('a slot dropped while the server is down: every shape rotates', async () => {
    const before = await readToEnd(suite.server, { table: 'items' });
    await suite.server.stop();
    await suite.db.sql(`select pg_drop_replication_slot('${suite.db.slot}')`);
    await suite.db.sql("insert into items values (300, 'unseen')");
    await suite.server.launch();
    await suite.server.active();
    const reply = await suite.server.shape({ table: 'items', offset: before.offset, handle: before.handle });
    expect(reply.status).toBe(409);
    await untilRows(follow('items'), items);
});

test('a publication dropped while the server is down: a new slot, every shape rotates', async () => {
    const before = await readToEnd(suite.server, { table: 'items' });
    await suite.server.stop();
    await suite.db.sql(`drop publication ${suite.db.publication}; insert into items values (301, 'unseen')`);
    await suite.server.launch();
    await suite.server.active();
    const reply = await suite.server.shape({ table: 'items', offset: before.offset, handle: before.handle });
    expect(reply.status).toBe(409);
    await untilRows(follow('items'), items);
});

test('a publication dropped at run time is noticed and clients end with the right rows', async () => {
    const follower = follow('items');
    await untilRows(follower, items);
    await suite.db.sql(`drop publication ${suite.db.publication}; insert into items values (302, 'unpublished')`);
    await untilRows(follower, items, 40_000);
    await suite.db.sql("insert into items values (303, 'later')");
    await untilRows(follower, items, 40_000);
}, 90_000);

test('a table taken out of the publication: changes in between are not lost', async () => {
    const follower = follow('items');
    await untilRows(follower, items);
    await suite.db.sql(`alter publication ${suite.db.publication} drop table items; insert into items values (400, 'in between')`);
    await untilRows(follower, items, 30_000);
    expect(follower.refetches).toBeGreaterThan(0);
    await suite.db.sql("insert into items values (401, 'later')");
    await untilRows(follower, items, 30_000);
});

describe('two instances of one stream', () => {
    test('the second waits, then takes over storage, slot and handles', async () => {
        const before = await readToEnd(suite.server, { table: 'items' });
        const second = await suite.another({ ELECTRIC_STORAGE_DIR: suite.server.storageDir });
        await until('the second to wait', async () => {
            const health = await second.get('/v1/health');
            expect(health.status).toBe(202);
            return health.json().status === 'waiting';
        });
        await suite.server.stop();
        await suite.db.sql("insert into items values (500, 'between')");
        await second.active();
        await until('the row that came in between', async () => {
            const after = await readToEnd(second, { table: 'items' }, before);
            expect(after.handle).toBe(before.handle);
            return after.messages.some((m) => m.value?.id === '500');
        });
        await second.stop();
        await suite.server.launch();
        await suite.server.active();
    });
});

describe('a role without rights', () => {
    test('a table of another owner gives a 503 that names the reason, and only for it', async () => {
        const role = `limited_${process.pid}`;
        await suite.db.sql(
            `create role ${role} login replication; grant create on database ${suite.db.name} to ${role};
             create table theirs(id int primary key); alter table theirs owner to ${role};
             grant usage on schema public to ${role}; grant select on items to ${role}`,
        );
        try {
            const url = suite.db.url.replace('postgresql://postgres@', `postgresql://${role}@`);
            const other = await suite.another({
                DATABASE_URL: url, ELECTRIC_REPLICATION_STREAM_ID: `${suite.db.streamId}_limited`,
            });
            await other.active();
            const own = await other.shape({ table: 'theirs', offset: -1 });
            expect(own.status, own.text).toBe(200);
            const replies = await Promise.all([1, 2, 3].map(() => other.shape({ table: 'items', offset: -1 })));
            for (const reply of replies) {
                expect(reply.status).toBe(503);
                expect(reply.headers['electric-internal-known-error']).toBe('true');
                expect(reply.headers['retry-after']).toBe('10');
                expect(reply.json().message).toMatch(/owner|lacks privileges|permission/);
            }
            expect((await other.shape({ table: 'theirs', offset: -1 })).status).toBe(200);
            await other.stop();
        } finally {
            await suite.db.sql(
                `select pg_drop_replication_slot(slot_name) from pg_replication_slots
                 where slot_name = '${suite.db.slot}_limited' and not active`,
            );
            await suite.db.sql(`drop owned by ${role} cascade; drop role ${role}`);
        }
    });
});

test('a transaction larger than 64 MB is served', async () => {
    await suite.db.sql('create table huge(id int primary key, v text)');
    const before = await readToEnd(suite.server, { table: 'huge' });
    await suite.db.sql("insert into huge select i, repeat(md5(i::text), 40) from generate_series(1, 60000) i");
    await untilStatus(suite.server, { table: 'huge', offset: before.offset, handle: before.handle }, 200);
    let rows = 0;
    await until('all rows', async () => {
        const after = await readToEnd(suite.server, { table: 'huge' }, before);
        rows = after.messages.filter((m) => m.headers.operation === 'insert').length;
        return rows === 60000;
    }, 60_000, 500).catch((error) => {
        throw new Error(`${(error as Error).message}; rows: ${rows}`);
    });
}, 120_000);

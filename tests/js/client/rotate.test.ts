// TRUNCATE and schema changes, with the npm client: each ends in a clean refetch.
import { afterEach, expect, test } from 'vitest';
import { realClient, stopClients, type RealClient } from '../support/real-client.js';
import { useSuite } from '../support/suite.js';

const suite = useSuite('client_rotate', {
    // The periodic check finds what the stream does not show.
    env: {
        ELECTRIC_TWEAKS_SCHEMA_RECONCILER_PERIOD: '1s',
        ELECTRIC_TWEAKS_PUBLICATION_REFRESH_PERIOD: '1s',
    },
});

afterEach(stopClients);

async function table(name: string): Promise<void> {
    await suite.db.sql(
        `create table ${name}(id int primary key, v text, x int);
         insert into ${name} values (1, 'a', 1), (2, 'b', 2)`,
    );
}

async function synced(name: string, params: object = {}): Promise<RealClient> {
    const client = realClient(suite.server.shapeUrl, { table: name, ...params });
    await client.until('the rows', (rows) => rows.length === 2);
    return client;
}

test('TRUNCATE: one refetch, a new handle, later changes follow', async () => {
    await table('r_trunc');
    const client = await synced('r_trunc');
    const handle = client.stream.shapeHandle;
    await suite.db.sql('truncate r_trunc');
    await client.until('no rows', (rows) => rows.length === 0);
    expect(client.controls.filter((c) => c === 'must-refetch').length).toBe(1);
    expect(client.stream.shapeHandle).not.toBe(handle);
    await suite.db.sql("insert into r_trunc values (5, 'new', 5)");
    await client.until('the new row', (rows) => rows.length === 1);
    expect(client.rows).toEqual([{ id: 5, v: 'new', x: 5 }]);
});

test('TRUNCATE within a transaction with other changes', async () => {
    await table('r_trunc2');
    const client = await synced('r_trunc2');
    await suite.db.sql("begin; insert into r_trunc2 values (3, 'c', 3); truncate r_trunc2; insert into r_trunc2 values (4, 'd', 4); commit");
    await client.until('only the last row', (rows) => rows.length === 1 && rows[0].id === 4);
});

test('a column added', async () => {
    await table('r_add');
    const client = await synced('r_add');
    await suite.db.sql("alter table r_add add y text default 'y'; insert into r_add values (3, 'c', 3, 'z')");
    await client.until('rows with the column', (rows) => rows.length === 3 && rows.every((r) => 'y' in r));
    expect(client.sorted().map((r) => r.y)).toEqual(['y', 'y', 'z']);
});

test('a column added leaves shapes with chosen columns alone', async () => {
    await table('r_addc');
    const client = await synced('r_addc', { columns: ['id', 'v'] });
    const handle = client.stream.shapeHandle;
    await suite.db.sql("alter table r_addc add y int; insert into r_addc values (3, 'c', 3, 4)");
    await client.until('the row', (rows) => rows.length === 3);
    expect(client.stream.shapeHandle).toBe(handle);
    expect(client.sorted()[2]).toEqual({ id: 3, v: 'c' });
});

test('a column dropped', async () => {
    await table('r_drop');
    const client = await synced('r_drop');
    await suite.db.sql("alter table r_drop drop x; insert into r_drop values (3, 'c')");
    await client.until('rows without the column', (rows) => rows.length === 3 && rows.every((r) => !('x' in r)));
});

test('the type of a column changed', async () => {
    await table('r_type');
    const client = await synced('r_type');
    await suite.db.sql("alter table r_type alter x type text; insert into r_type values (3, 'c', 'three')");
    await client.until('rows of the new type', (rows) => rows.length === 3 && rows.every((r) => typeof r.x === 'string'));
    expect(client.sorted().map((r) => r.x)).toEqual(['1', '2', 'three']);
});

test('a column renamed', async () => {
    await table('r_ren');
    const client = await synced('r_ren');
    await suite.db.sql("alter table r_ren rename v to vv; insert into r_ren values (3, 'c', 3)");
    await client.until('rows of the new name', (rows) => rows.length === 3 && rows.every((r) => 'vv' in r));
});

test('the primary key changed', async () => {
    await table('r_pk');
    const client = await synced('r_pk');
    await suite.db.sql("alter table r_pk drop constraint r_pk_pkey, add primary key (id, x); insert into r_pk values (1, 'c', 3)");
    await client.until('all rows', (rows) => rows.length === 3);
    expect([...client.shape.currentValue.keys()].sort()).toContain('"public"."r_pk"/"1"/"3"');
});

test('the table dropped and created again: the periodic check notices', async () => {
    await table('r_again');
    const client = await synced('r_again');
    await suite.db.sql("drop table r_again; create table r_again(id int primary key, z text); insert into r_again values (9, 'new')");
    await client.until('the new table', (rows) => rows.length === 1 && rows[0].z === 'new', 30_000);
    await suite.db.sql("insert into r_again values (10, 'more')");
    await client.until('a change of it', (rows) => rows.length === 2, 30_000);
});

test('the table dropped: the client gets a 400 that says so', async () => {
    await table('r_gone');
    const client = await synced('r_gone');
    await suite.db.sql('drop table r_gone');
    const deadline = Date.now() + 30_000;
    while (client.errors.length === 0 && Date.now() < deadline) {
        await new Promise((done) => setTimeout(done, 50));
    }
    expect(client.errors.length).toBeGreaterThan(0);
    expect(String(client.errors[0])).toContain('does not exist');
});

test('DELETE by the API ends in a refetch', async () => {
    await table('r_delete');
    const client = await synced('r_delete');
    const handle = client.stream.shapeHandle;
    const reply = await suite.server.get('/v1/shape?table=r_delete', { method: 'DELETE' });
    expect(reply.status).toBe(202);
    await suite.db.sql("insert into r_delete values (3, 'c', 3)");
    await client.until('three rows', (rows) => rows.length === 3);
    expect(client.stream.shapeHandle).not.toBe(handle);
});

test('a rotation while many clients wait: each refetches once and none sees old rows', async () => {
    await table('r_many');
    const clients = await Promise.all(Array.from({ length: 10 }, () => synced('r_many')));
    await suite.db.sql("begin; truncate r_many; insert into r_many values (7, 'g', 7); commit");
    await Promise.all(clients.map((c) => c.until('the new row', (rows) => rows.length === 1 && rows[0].id === 7)));
    expect(new Set(clients.map((c) => c.stream.shapeHandle)).size).toBe(1);
});

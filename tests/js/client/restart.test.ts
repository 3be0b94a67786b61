// The npm client through restarts and crashes of the server and of Postgres.
import { afterEach, beforeAll, afterAll, describe, expect, test } from 'vitest';
import { Cluster } from '../support/postgres.js';
import { realClient, stopClients } from '../support/real-client.js';
import { useSuite } from '../support/suite.js';
import { sleep } from '../support/process.js';

let cluster: Cluster;
beforeAll(async () => {
    cluster = await Cluster.start();
});
afterAll(() => cluster.remove());

const suite = useSuite('client_restart', {
    cluster: () => cluster,
    setup: `
        create table items(id int primary key, v text);
        insert into items select i, 'v' || i from generate_series(1, 50) i;
        create table chunky(id int primary key, v text);
        insert into chunky select i, repeat('x', 100) from generate_series(1, 400) i;
    `,
    env: { ELECTRIC_SHAPE_CHUNK_BYTES_THRESHOLD: '4000' },
});

afterEach(stopClients);

/** Writes while something happens to the server; gives the last value written. */
async function writeThrough(disturb: () => Promise<void>): Promise<string> {
    const session = await suite.db.session();
    let last = '';
    let going = true;
    const writer = (async () => {
        for (let n = 0; going; n++) {
            last = `w${n}-${Math.random()}`;
            await session.query('update items set v = $1 where id = $2', [last, 1 + (n % 50)]);
            await sleep(2);
        }
    })();
    await sleep(100);
    await disturb();
    await sleep(100);
    going = false;
    await writer;
    return last;
}

test('chunked logs: every chunk leads to the next, all rows arrive', async () => {
    await suite.db.sql("update chunky set v = repeat('y', 100)");
    const client = realClient(suite.server.shapeUrl, { table: 'chunky' });
    await client.until('the rows', (rows) => rows.length === 400);
    await suite.db.sql("update chunky set v = repeat('z', 100) where id <= 200");
    await client.until('the updates', (rows) => rows.filter((r) => r.v[0] === 'z').length === 200);
    const offsets = new Set(client.requests.map((r) => /offset=([^&]*)/.exec(r)![1]));
    expect(offsets.size).toBeGreaterThan(15);
    const late = realClient(suite.server.shapeUrl, { table: 'chunky' });
    await late.until('the rows', (rows) => rows.filter((r) => r.v[0] === 'z').length === 200);
    expect(late.sorted()).toEqual(client.sorted());
});

describe.each([
    ['SIGTERM', async () => suite.server.restart()],
    ['kill -9', async () => {
        await suite.server.kill9();
        await suite.server.launch();
    }],
] as [string, () => Promise<void>][])('a server ended by %s in mid-stream', (_name, disturb) => {
    for (const liveSse of [false, true]) {
        test(`is bridged without a refetch (${liveSse ? 'event stream' : 'long poll'})`, async () => {
            const client = realClient(suite.server.shapeUrl, { table: 'items' }, { liveSse });
            await client.until('the rows', (rows) => rows.length === 50);
            const handle = client.stream.shapeHandle;
            const last = await writeThrough(disturb);
            await client.until('the last write', (rows) => rows.some((r) => r.v === last), 30_000);
            const truth = await suite.db.sql('select id::int as id, v from items order by id');
            expect(client.sorted().map((r) => [String(r.id), r.v])).toEqual(truth.map((r) => [r.id, r.v]));
            expect(client.stream.shapeHandle).toBe(handle);
            expect(client.controls).not.toContain('must-refetch');
        });
    }
});

test('changes made while the server is down are delivered at the old handle', async () => {
    const client = realClient(suite.server.shapeUrl, { table: 'items' });
    await client.upToDate();
    const handle = client.stream.shapeHandle;
    await suite.server.stop();
    await suite.db.sql("update items set v = 'while down' where id = 7");
    await suite.server.launch();
    await client.until('the change', (rows) => rows.some((r) => r.v === 'while down'), 30_000);
    expect(client.stream.shapeHandle).toBe(handle);
    expect(client.controls).not.toContain('must-refetch');
});

test('repeated crashes leave rows equal', async () => {
    const client = realClient(suite.server.shapeUrl, { table: 'items' });
    await client.upToDate();
    let last = '';
    for (let n = 0; n < 4; n++) {
        last = await writeThrough(async () => {
            await suite.server.kill9();
            await suite.server.launch();
        });
    }
    await client.until('the last write', (rows) => rows.some((r) => r.v === last), 30_000);
    const truth = await suite.db.sql('select id, v from items order by id::int');
    expect(client.sorted().map((r) => [String(r.id), r.v])).toEqual(truth.map((r) => [r.id, r.v]));
});

test('a restart of Postgres is bridged', async () => {
    const client = realClient(suite.server.shapeUrl, { table: 'items' });
    await client.upToDate();
    const handle = client.stream.shapeHandle;
    suite.db.forgetSessions();
    await cluster.restart();
    await suite.db.sql("update items set v = 'after the restart' where id = 9");
    await client.until('the change', (rows) => rows.some((r) => r.v === 'after the restart'), 60_000);
    expect(client.stream.shapeHandle).toBe(handle);
}, 90_000);

test('a crash of Postgres is bridged', async () => {
    const client = realClient(suite.server.shapeUrl, { table: 'items' });
    await client.upToDate();
    suite.db.forgetSessions();
    await cluster.kill();
    await cluster.launch();
    await suite.db.sql("update items set v = 'after the crash' where id = 9");
    await client.until('the change', (rows) => rows.some((r) => r.v === 'after the crash'), 60_000);
}, 90_000);

// What the server does while its disk or Postgres fails, as a user would see it. The loops
// beside this file try every call; here it is what is promised meanwhile.
import { afterAll, beforeAll, beforeEach, afterEach, describe, expect, test } from 'vitest';
import { Coulomb } from '../support/coulomb.js';
import { Follower } from '../support/follower.js';
import { IoFaults, type Fault } from '../support/iofaults.js';
import { Cluster } from '../support/postgres.js';
import { sleep, until } from '../support/process.js';
import { Recorder } from '../support/recorder.js';
import { untilRows } from '../support/shapes.js';
import { Database, serverEnv } from '../support/suite.js';
import { lastWords } from '../support/words.js';

let cluster: Cluster;
let db: Database;
let faults: IoFaults;
let server: Coulomb;
let follower: Follower;
let recorder: Recorder;

beforeAll(async () => {
    cluster = await Cluster.start();
});
afterAll(() => cluster.remove());

beforeEach(async () => {
    db = await Database.create('policy', cluster);
    await db.sql(`create table items(id int primary key, v text);
        insert into items select i, repeat('v', 300) from generate_series(1, 200) i`);
    faults = new IoFaults();
    recorder = new Recorder();
    server = new Coulomb(serverEnv(db, { ELECTRIC_SHAPE_CHUNK_BYTES_THRESHOLD: '20000' }));
    Object.assign(server.env, faults.env(server.storageDir, cluster.port));
    await server.launch();
    await server.active();
    follower = new Follower(() => server.url, { table: 'items' }, {
        recorder, keyColumns: ['id'], failing: true,
    }).start();
    await untilRows(follower, rows);
});
afterEach(async (context) => {
    if (context.task.result?.state === 'fail') process.stderr.write(`${server.tail(25)}\n`);
    faults.disarm();
    await follower.stop();
    await server.close();
    faults.close();
    await db.drop();
});

const rows = (): Promise<any[]> => db.sql('select id, v from items');

async function healthStatus(): Promise<number> {
    return (await server.get('/v1/health')).status;
}

async function confirmedLsn(): Promise<string> {
    const [row] = await db.sql(
        `select confirmed_flush_lsn as lsn from pg_replication_slots where slot_name = '${db.slot}'`);
    return row.lsn;
}

async function isBehind(lsn: string): Promise<boolean> {
    const [row] = await db.sql('select $1::pg_lsn < $2::pg_lsn as behind', [await confirmedLsn(), lsn]);
    return row.behind === 't';
}

const noWriting: [string, Fault[], RegExp][] = [
    ['full', [{ kind: 'write', errno: 'ENOSPC', sticky: true },
        { kind: 'create', errno: 'ENOSPC', sticky: true }], /no space left|disk is full/i],
    ['read-only', [{ kind: 'write', errno: 'EROFS', sticky: true },
        { kind: 'create', errno: 'EROFS', sticky: true }], /read-only|readonly/i],
    ['over its quota, in mid-write', [{ kind: 'write', errno: 'EDQUOT', sticky: true, partial: 'torn' }],
        /quota/i],
];

describe.each(noWriting)('a disk that is %s', (_name, rules, reason) => {
    test('stops nothing but progress, is told, and is got over', async () => {
        const handle = follower.handle;
        rules.forEach((fault, i) => faults.arm(fault, i));
        const first = Date.now();
        await db.sql("update items set v = 'changed' where id <= 20");
        const [{ lsn }] = await db.sql('select pg_current_wal_lsn() as lsn');
        await until('the fault', () => faults.hits(0) > 0, 5_000);
        // Told: in the log with its reason, and to load balancers.
        await until('the log to say why', () => reason.test(server.life), 5_000);
        await until('health to say so', async () => (await healthStatus()) !== 200, 5_000);
        expect(Date.now() - first).toBeLessThan(6_000);
        // What is there is served.
        const old = await server.shape({ table: 'items', offset: '-1', handle });
        expect(old.status).toBe(200);
        expect(old.headers['electric-handle']).toBe(handle);
        // Nothing of it is acknowledged.
        await db.sql("update items set v = 'and again' where id <= 30");
        await sleep(1_500);
        expect(server.running).toBe(true);
        expect(await isBehind(lsn)).toBe(true);
        expect(await healthStatus()).not.toBe(200);
        // The disk is good again: no restart, no refetch.
        faults.disarm();
        await server.active(10_000);
        await untilRows(follower, rows, 10_000);
        expect(follower.handle).toBe(handle);
        await db.sql('delete from items where id < 5');
        await untilRows(follower, rows, 10_000);
        await until('the acknowledgement', async () => !(await isBehind(lsn)), 10_000);
        await restartAndReread();
    });
});

/** After a crash everything is as it was served. */
async function restartAndReread(): Promise<void> {
    await server.kill9();
    await server.launch();
    await db.sql("insert into items values (1000, 'after the crash')");
    await untilRows(follower, rows);
    for (const served of recorder.promised()) await recorder.again(server.url, served);
}

test('a sync of the log that fails ends the server with its reason; a restart is right', async () => {
    faults.arm({ kind: 'sync', errno: 'EIO', path: '/segments/' });
    await db.sql("update items set v = 'changed' where id <= 20");
    const code = await until('the server to end', () => server.ended, 10_000);
    faults.disarm();
    await sleep(20);
    expect(code).toBeTypeOf('number');
    expect(code).not.toBe(0);
    expect(lastWords(server.life)).toMatch(/input\/output error|disk i\/o error/i);
    await db.sql("update items set v = 'while down' where id = 30");
    await server.launch();
    await untilRows(follower, rows);
    await restartAndReread();
});

test('a sync of the database that fails is told; what it was to hold is written again', async () => {
    faults.arm({ kind: 'sync', errno: 'EIO', path: '/meta.sqlite' });
    await db.sql("update items set v = 'changed' where id <= 20");
    const [{ lsn }] = await db.sql('select pg_current_wal_lsn() as lsn');
    await until('the fault', () => faults.hits(0) > 0, 10_000);
    await until('the log to say why', () => /i\/o error/i.test(server.life), 10_000);
    await until('the acknowledgement', async () => !(await isBehind(lsn)), 10_000);
    expect(server.running).toBe(true);
    await untilRows(follower, rows);
    await restartAndReread();
});

test('what is written to a slow disk arrives at once, and is acknowledged later', async () => {
    faults.arm({ kind: 'sync', action: 'wait', waitMs: 400, sticky: true });
    const took: number[] = [];
    for (let n = 0; n < 10; n++) {
        const text = `slow ${n}`;
        await db.sql('update items set v = $1 where id = 1', [text]);
        const start = performance.now();
        await until('the change', () => [...follower.rows.values()].some((r) => r.v === text), 5_000, 2);
        took.push(performance.now() - start);
    }
    expect(faults.hits()).toBeGreaterThan(0);
    took.sort((a, b) => a - b);
    expect(took[5]).toBeLessThan(150);
    const [{ lsn }] = await db.sql('select pg_current_wal_lsn() as lsn');
    await until('the acknowledgement', async () => !(await isBehind(lsn)), 10_000);
});

test('Postgres that refuses connections for a while is waited for', async () => {
    faults.arm({ kind: 'connect', errno: 'ECONNREFUSED', sticky: true });
    await db.sql(`select pg_terminate_backend(pid) from pg_stat_activity
        where pid <> pg_backend_pid() and datname = current_database()`);
    await db.sql("update items set v = 'unheard' where id = 1");
    await until('an attempt', () => faults.hits() > 0, 10_000);
    await until('health to say so', async () => (await healthStatus()) !== 200, 5_000);
    expect((await server.shape({ table: 'items', offset: '-1' })).status).toBe(200);
    await sleep(1_000);
    expect(server.running).toBe(true);
    faults.disarm();
    await server.active(15_000);
    await untilRows(follower, rows);
    expect(follower.refetches).toBe(0);
});

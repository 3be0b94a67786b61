// A successor whose disk fails while it takes over from a frozen server: it says why, tries
// again, and has everything once the fault is over. Each call of a take-over is tried in
// tests/unit/server/shapelog/test_shapelog_takeover_faults.c.
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { Coulomb } from '../support/coulomb.js';
import { IoFaults, type Fault } from '../support/iofaults.js';
import { Cluster } from '../support/postgres.js';
import { until } from '../support/process.js';
import { readToEnd } from '../support/shapes.js';
import { Database, serverEnv } from '../support/suite.js';

let cluster: Cluster;
let db: Database;
let faults: IoFaults;
let first: Coulomb;
let second: Coulomb;

beforeAll(async () => {
    cluster = await Cluster.start();
});
afterAll(() => cluster.remove());

beforeEach(async () => {
    db = await Database.create('takeover', cluster);
    await db.sql("create table items(id int primary key, v text); insert into items values (1, 'a')");
    faults = new IoFaults();
    first = new Coulomb(serverEnv(db));
    await first.launch();
    await first.active();
    second = new Coulomb({ ...serverEnv(db), ELECTRIC_STORAGE_DIR: first.storageDir });
    Object.assign(second.env, faults.env(first.storageDir, cluster.port));
});
afterEach(async (context) => {
    if (context.task.result?.state === 'fail') process.stderr.write(`${second.tail(25)}\n`);
    faults.disarm();
    await second.close();
    await first.close();
    faults.close();
    await db.drop();
});

async function untilDurable(): Promise<void> {
    await db.sql("insert into items values (100, 'durable')");
    const [{ lsn }] = await db.sql('select pg_current_wal_lsn() as lsn');
    await until('a checkpoint', async () => {
        const reached = await db.sql(`select from pg_replication_slots
            where slot_name = '${db.slot}' and confirmed_flush_lsn >= '${lsn}'`);
        return reached.length > 0;
    });
}

const failing: [string, Fault, RegExp][] = [
    ['a full disk', { kind: 'write', errno: 'ENOSPC', sticky: true }, /no space left|disk is full/i],
    ['no descriptors', { kind: 'open', errno: 'EMFILE', sticky: true }, /too many open files/i],
    ['no new files', { kind: 'create', errno: 'EROFS', sticky: true }, /read-only/i],
    ['a folder that can\'t be read', { kind: 'list', errno: 'EIO', sticky: true }, /input\/output error/i],
    ['a rename that fails', { kind: 'rename', errno: 'EIO', sticky: true }, /input\/output error/i],
];

test.each(failing)('%s delays a take-over, with its reason', async (_name, fault, reason) => {
    const before = await readToEnd(first, { table: 'items' });
    await untilDurable();
    await second.launch();
    await until('the second to wait', async () => {
        return (await second.get('/v1/health')).json().status === 'waiting';
    });
    process.kill(first.pid, 'SIGSTOP');
    faults.arm(fault);
    await db.sql(`select pg_terminate_backend(active_pid) from pg_replication_slots
        where slot_name = '${db.slot}'`);
    await db.sql("insert into items values (2, 'while frozen')");
    await until('it to say why', () => {
        return second.life.split('\n').some((line) => /storage/.test(line) && reason.test(line));
    }, 30_000);
    expect(second.running).toBe(true);
    expect((await second.get('/v1/health')).status).not.toBe(200);
    faults.disarm();
    await second.active(30_000);
    await until('the row that came in between', async () => {
        const read = await readToEnd(second, { table: 'items' }, before);
        expect(read.handle).toBe(before.handle);
        return read.messages.some((m) => m.value?.id === '2');
    });
    process.kill(first.pid, 'SIGCONT');
    await until('the first to end by itself', () => !first.running, 30_000);
    expect(first.log).toMatch(/another process has taken over the storage/);
}, 120_000);

// Two processes over one storage: the one that was thought dead can't harm, and knows its end.
import { expect, test } from 'vitest';
import { sleep, until } from '../support/process.js';
import { readToEnd } from '../support/shapes.js';
import { useSuite } from '../support/suite.js';

const suite = useSuite('takeover', {
    setup: `
        create table items(id int primary key, v text); insert into items values (1, 'a');
    `,
});

/** Until the slot has confirmed what was written now: a checkpoint holds all shapes of before. */
async function untilDurable(): Promise<void> {
    await suite.db.sql("insert into items values (100, 'durable')");
    const [{ lsn }] = await suite.db.sql('select pg_current_wal_lsn() as lsn');
    await until('a checkpoint', async () => {
        const reached = await suite.db.sql(
            `select from pg_replication_slots
             where slot_name = '${suite.db.slot}' and confirmed_flush_lsn >= '${lsn}'`,
        );
        return reached.length > 0;
    });
}

test('a frozen server loses stream and storage to the next, and ends when it wakes', async () => {
    const first = suite.server;
    await readToEnd(first, { table: 'items' });
    await untilDurable();
    const before = await readToEnd(first, { table: 'items' });
    const second = await suite.another({ ELECTRIC_STORAGE_DIR: first.storageDir });
    await until('the second to wait', async () => {
        return (await second.get('/v1/health')).json().status === 'waiting';
    });
    process.kill(first.pid, 'SIGSTOP');
    await suite.db.sql(
        `select pg_terminate_backend(active_pid) from pg_replication_slots
         where slot_name = '${suite.db.slot}'`,
    );
    await suite.db.sql("insert into items values (2, 'while frozen')");
    await second.active(30_000);
    expect(second.log).toMatch(/event=storage\.taken_over/);
    const after = await until('the row that came in between', async () => {
        const read = await readToEnd(second, { table: 'items' }, before);
        expect(read.handle).toBe(before.handle);
        return read.messages.some((m) => m.value?.id === '2') ? read : false;
    });
    // The first wakes up. What it may still do is of no consequence, and it finds out.
    process.kill(first.pid, 'SIGCONT');
    await until('the first to end by itself', () => !first.running, 30_000);
    expect(first.log).toMatch(/another process has taken over the storage/);
    await suite.db.sql("insert into items values (3, 'afterwards')");
    await until('the next row', async () => {
        const read = await readToEnd(second, { table: 'items' }, after);
        return read.messages.some((m) => m.value?.id === '3');
    });
    await sleep(300);
    await second.restart();
    await second.active();
    const again = await readToEnd(second, { table: 'items' }, before);
    expect(again.handle).toBe(before.handle);
    expect(again.messages.filter((m) => m.value).map((m) => m.value.id)).toEqual(['2', '3']);
    await second.stop();
    await first.launch();
    await first.active();
}, 120_000);

test('a storage folder of another stream is never taken over', async () => {
    const first = suite.server;
    await readToEnd(first, { table: 'items' });
    const other = await suite.another({
        ELECTRIC_STORAGE_DIR: first.storageDir,
        ELECTRIC_REPLICATION_STREAM_ID: `${suite.db.streamId}_other`,
    });
    await until('it to say what is wrong', () => {
        return /is in use by another process, for another database or slot/.test(other.log);
    }, 30_000);
    expect((await other.get('/v1/health')).status).toBe(202);
    expect((await first.get('/v1/health')).status).toBe(200);
    await other.stop();
    await suite.db.sql(
        `select pg_drop_replication_slot(slot_name) from pg_replication_slots
         where slot_name = '${suite.db.slot}_other' and not active`,
    );
}, 60_000);

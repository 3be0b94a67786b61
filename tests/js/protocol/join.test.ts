// Where snapshot and stream meet: each row of the overlap appears once, whatever was open,
// committed or rolled back around the snapshot.
import { afterEach, describe, expect, test } from 'vitest';
import { Follower } from '../support/follower.js';
import { sleep, until } from '../support/process.js';
import { changesOf, nextEntries, readToEnd, untilRows } from '../support/shapes.js';
import { useSuite } from '../support/suite.js';

const suite = useSuite('join', {
    setup: 'create table ready(id int primary key, v text)',
});

let count = 0;
const followers: Follower[] = [];
afterEach(async () => {
    for (const follower of followers.splice(0)) await follower.stop();
});

async function newTable(): Promise<string> {
    const name = `t${++count}`;
    await suite.db.sql(
        `create table ${name}(id int primary key, v text);
         insert into ${name} select i, 'v' || i from generate_series(1, 20) i`,
    );
    return name;
}

function follow(table: string): Follower {
    const follower = new Follower(() => suite.server.url, { table }, { keyColumns: ['id'] }).start();
    followers.push(follower);
    return follower;
}

/** A later transaction ends, so that those open now lie below the next snapshot's xmax. */
async function passIt(): Promise<void> {
    await suite.db.sql('select pg_current_xact_id()');
}

const truth = (table: string) => (): Promise<any[]> => suite.db.sql(`select * from ${table}`);

describe('a transaction open while the snapshot is taken', () => {
    const OPEN = (t: string): string =>
        `begin; insert into ${t} values (100, 'open'); update ${t} set v = 'open' where id <= 5;
         delete from ${t} where id = 20; update ${t} set id = 200 where id = 19`;

    test('is delivered through the log when it commits later', async () => {
        const table = await newTable();
        // The table is published before, so that preparing it does not wait.
        await readToEnd(suite.server, { table, columns: 'id' });
        const session = await suite.db.session();
        await session.query(OPEN(table));
        await passIt();
        const first = await readToEnd(suite.server, { table });
        expect(changesOf(first.messages).length).toBe(20);
        const end = first.messages.find((m) => m.headers.control === 'snapshot-end');
        const [{ xid }] = (await session.query('select pg_current_xact_id()::text as xid')).rows;
        expect(end.headers.xip_list).toContain(xid);
        const follower = follow(table);
        await session.query('commit');
        await untilRows(follower, truth(table));
    });

    test('leaves no trace when it rolls back', async () => {
        const table = await newTable();
        await readToEnd(suite.server, { table, columns: 'id' });
        const session = await suite.db.session();
        await session.query(OPEN(table));
        const follower = follow(table);
        await until('the first sync', () => follower.upToDate);
        await session.query('rollback');
        await suite.db.sql(`insert into ${table} values (300, 'after')`);
        await untilRows(follower, truth(table));
    });

    test('with savepoints, some rolled back', async () => {
        const table = await newTable();
        await readToEnd(suite.server, { table, columns: 'id' });
        const session = await suite.db.session();
        await session.query(
            `begin; savepoint a; insert into ${table} values (100, 'kept'); release a;
             savepoint b; insert into ${table} values (101, 'lost'); update ${table} set v = 'lost'`,
        );
        await passIt();
        const follower = follow(table);
        await until('the first sync', () => follower.upToDate);
        await session.query(
            `rollback to b; savepoint c; insert into ${table} values (102, 'kept'); commit`,
        );
        await untilRows(follower, truth(table));
        expect(follower.rows.has(`"public"."${table}"/"101"`)).toBe(false);
    });

    test('prepared before the snapshot and committed after it', async () => {
        const table = await newTable();
        await readToEnd(suite.server, { table, columns: 'id' });
        const name = `prepared_${table}_${process.pid}`;
        await suite.db.sql(
            `begin; insert into ${table} values (100, 'prepared'); prepare transaction '${name}'`,
        );
        await passIt();
        const follower = follow(table);
        await until('the first sync', () => follower.upToDate);
        expect(follower.rows.size).toBe(20);
        await suite.db.sql(`commit prepared '${name}'`);
        await untilRows(follower, truth(table));
        expect(follower.rows.size).toBe(21);
    });

    test('that began before the server knew the table', async () => {
        const table = await newTable();
        // Not published yet: adding the table must wait for the writer, or see its rows.
        const session = await suite.db.session();
        await session.query(`begin; insert into ${table} values (100, 'early')`);
        const follower = follow(table);
        await sleep(300);
        await session.query('commit');
        await untilRows(follower, truth(table), 30_000);
    });
});

test('transactions committed just before the snapshot are not delivered twice', async () => {
    const table = await newTable();
    await readToEnd(suite.server, { table, columns: 'id' });
    for (let n = 0; n < 20; n++) {
        await suite.db.sql(`update ${table} set v = 'n${n}' where id = ${1 + n}`);
    }
    const first = await readToEnd(suite.server, { table });
    const rows = new Map(changesOf(first.messages).map((m) => [m.key, m.value.v]));
    expect(rows.size).toBe(20);
    const position = first;
    await suite.db.sql(`insert into ${table} values (500, 'end')`);
    const { changes } = await nextEntries(suite.server, { table }, position);
    expect(changes.map((m) => m.value.id)).toEqual(['500']);
});

test('concurrent first requests share one handle and one snapshot', async () => {
    const table = await newTable();
    const replies = await Promise.all(
        Array.from({ length: 40 }, () => suite.server.shape({ table, offset: -1 })),
    );
    expect(new Set(replies.map((r) => r.status))).toEqual(new Set([200]));
    expect(new Set(replies.map((r) => r.headers['electric-handle'])).size).toBe(1);
    expect(new Set(replies.map((r) => r.text)).size).toBe(1);
});

test('shapes created while others write, one after another', async () => {
    const table = await newTable();
    let going = true;
    const session = await suite.db.session();
    const writer = (async () => {
        for (let n = 0; going; n++) {
            await session.query(`begin; update ${table} set v = 'w${n}' where id = ${1 + (n % 20)}`);
            if (n % 5 === 0) await sleep(3);
            await session.query(n % 7 === 0 ? 'rollback' : 'commit');
        }
    })();
    const columns = ['id', 'id,v', undefined];
    const all: { follower: Follower; list: string | undefined }[] = [];
    for (let n = 0; n < 12; n++) {
        const list = columns[n % 3];
        const replica = n % 2 ? 'full' : undefined;
        const follower = new Follower(
            () => suite.server.url, { table, columns: list, replica }, { keyColumns: ['id'] },
        ).start();
        followers.push(follower);
        all.push({ follower, list });
        await sleep(40);
    }
    going = false;
    await writer;
    for (const { follower, list } of all) {
        await untilRows(follower, () => suite.db.sql(`select ${list ?? '*'} from ${table}`));
    }
});

test('a row locked and updated by a waiting transaction arrives once', async () => {
    const table = await newTable();
    await readToEnd(suite.server, { table, columns: 'id' });
    const [one, two] = [await suite.db.session(), await suite.db.session()];
    await one.query(`begin; update ${table} set v = 'one' where id = 1`);
    await two.query('begin');
    const waiting = two.query(`update ${table} set v = v || ' two' where id = 1`);
    await sleep(100);
    const follower = follow(table);
    await until('the first sync', () => follower.upToDate);
    await one.query('commit');
    await waiting;
    await two.query('commit');
    await untilRows(follower, truth(table));
    expect(follower.rows.get(`"public"."${table}"/"1"`)).toEqual({ id: '1', v: 'one two' });
});

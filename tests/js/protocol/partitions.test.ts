// Partitioned tables beyond the recordings.
import { afterEach, expect, test } from 'vitest';
import { Follower } from '../support/follower.js';
import { until } from '../support/process.js';
import { untilRows } from '../support/shapes.js';
import { useSuite } from '../support/suite.js';

const suite = useSuite('partitions', {
    setup: `
        create table root(id int, k int, v text, primary key (id, k)) partition by list (k);
        create table pa partition of root for values in (1);
        create table pb partition of root for values in (2);
        insert into root values (1, 1, 'a'), (2, 2, 'b');
        create table deep(id int primary key, v text) partition by range (id);
        create table deep_1 partition of deep for values from (0) to (100) partition by range (id);
        create table deep_1a partition of deep_1 for values from (0) to (50);
        create table deep_1b partition of deep_1 for values from (50) to (100);
        insert into deep values (1, 'x'), (60, 'y');
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

const rows = (table: string) => (): Promise<any[]> => suite.db.sql(`select * from ${table}`);

test('root and partitions each follow their rows, also through moves', async () => {
    const [root, pa, pb] = [follow('root'), follow('pa'), follow('pb')];
    await untilRows(root, rows('root'));
    await suite.db.sql("insert into root values (3, 1, 'c')");
    await suite.db.sql("update root set v = 'cc' where id = 3");
    await suite.db.sql('update root set k = 2 where id = 3');
    await suite.db.sql("update root set k = 1, v = 'back' where id = 3");
    await suite.db.sql('delete from root where id = 2');
    await untilRows(root, rows('root'));
    await untilRows(pa, rows('pa'));
    await untilRows(pb, rows('pb'));
    for (const key of root.rows.keys()) expect(key).toMatch(/^"public"\."root"\//);
    for (const key of pa.rows.keys()) expect(key).toMatch(/^"public"\."pa"\//);
});

test('a new partition, one attached and one detached', async () => {
    const root = follow('root');
    await untilRows(root, rows('root'));
    await suite.db.sql("create table pc partition of root for values in (3); insert into root values (9, 3, 'new')");
    await untilRows(root, rows('root'));
    await suite.db.sql("update pc set v = 'direct'");
    await untilRows(root, rows('root'));
});

test('TRUNCATE of a partition rotates the root and it, not its siblings', async () => {
    await suite.db.sql("insert into root values (20, 1, 'x'), (21, 2, 'y')");
    const [root, pa, pb] = [follow('root'), follow('pa'), follow('pb')];
    for (const f of [root, pa, pb]) await until('sync', () => f.upToDate);
    await suite.db.sql('truncate pa');
    await untilRows(root, rows('root'));
    await untilRows(pa, rows('pa'));
    expect(root.refetches).toBe(1);
    expect(pa.refetches).toBe(1);
    expect(pb.refetches).toBe(0);
});

test('TRUNCATE of the root rotates all of them', async () => {
    await suite.db.sql("insert into root values (30, 1, 'x'), (31, 2, 'y')");
    const all = [follow('root'), follow('pa'), follow('pb')];
    for (const f of all) await until('sync', () => f.upToDate);
    await suite.db.sql('truncate root');
    for (const f of all) await until('empty', () => f.upToDate && f.rows.size === 0);
    expect(all.map((f) => f.refetches)).toEqual([1, 1, 1]);
});

test('partitions of partitions', async () => {
    const [deep, middle, leaf] = [follow('deep'), follow('deep_1'), follow('deep_1a')];
    await untilRows(deep, rows('deep'));
    await suite.db.sql("insert into deep values (2, 'z'), (70, 'w'); update deep set v = 'u' where id = 60; update deep set id = 80 where id = 1");
    await untilRows(deep, rows('deep'));
    await untilRows(middle, rows('deep_1'));
    await untilRows(leaf, rows('deep_1a'));
});

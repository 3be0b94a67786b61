// A primary key that changes under its shape: no row is ever shown under a key of the old
// form that was written after the change.
import { expect, test } from 'vitest';
import { Follower, type Change } from '../support/follower.js';
import { sleep } from '../support/process.js';
import { untilRows } from '../support/shapes.js';
import { useSuite } from '../support/suite.js';

const suite = useSuite('keys', {});

/** How many parts the row's key has. */
const parts = (change: Change): number => change.key.split('"/"').length;

for (const [how, together] of [['beside the writers', false], ['in one transaction with rows', true]] as const) {
    test(`a primary key that grows, ${how}`, async () => {
        const writer = await suite.db.session();
        for (let round = 0; round < 5; round++) {
            const table = `t_${together ? 'a' : 'b'}${round}`;
            await suite.db.sql(`create table ${table}(id int primary key, v int not null); insert into ${table} values (0, 0)`);
            const shown: Change[] = [];
            const follower = new Follower(() => suite.server.url, { table }, { onChange: (c) => shown.push(c) }).start();
            await untilRows(follower, () => suite.db.sql(`select * from ${table}`));
            let id = 0;
            let changedAt = Infinity;
            let ended = false;
            const writing = (async () => {
                while (!ended) {
                    const next = ++id;
                    await writer.query(`insert into ${table} values (${next}, ${next})`);
                }
            })();
            await sleep(20 + 7 * round);
            const change = `alter table ${table} drop constraint ${table}_pkey, add primary key (id, v)`;
            await suite.db.sql(together ? `begin; ${change}; insert into ${table} values (-1, 1); commit` : change);
            changedAt = id + 1; // the insert that is under way may have come before
            await sleep(100);
            ended = true;
            await writing;
            await untilRows(follower, () => suite.db.sql(`select * from ${table}`));
            await follower.stop();
            expect(follower.failure).toBeUndefined();
            expect(follower.refetches).toBeGreaterThan(0);
            expect(id).toBeGreaterThan(changedAt);
            const wrong = shown.filter((c) => parts(c) < 3 &&
                (Number(c.value.id) > changedAt || c.value.id === '-1'));
            expect(wrong).toEqual([]);
            for (const key of follower.rows.keys()) expect(key.split('"/"').length).toBe(3);
        }
    });
}

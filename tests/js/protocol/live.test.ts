// Live delivery: nothing falls between a request and a change, waiters cost nothing to
// others, and those who leave free their place.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { sleep, until } from '../support/process.js';
import { changesOf, readToEnd } from '../support/shapes.js';
import { useSuite } from '../support/suite.js';

const suite = useSuite('live', {
    setup: `
        create table items(id int primary key, v text);
        insert into items values (1, 'a');
        create table other(id int primary key, v text);
        create table gone(id int primary key, v text);
    `,
});

test('a change that commits together with the request is not missed', async () => {
    const session = await suite.db.session();
    let position = await readToEnd(suite.server, { table: 'items' });
    for (let n = 0; n < 120; n++) {
        const write = session.query("update items set v = $1 where id = 1", [`n${n}`]);
        if (n % 3 === 0) await sleep(n % 5);
        const reply = await suite.server.shape({
            table: 'items', offset: position.offset, handle: position.handle, live: true,
        });
        await write;
        expect(reply.headers['electric-has-data'], `round ${n}`).toBe('true');
        const changes = changesOf(reply.json());
        expect(changes.map((m) => m.value.v)).toEqual([`n${n}`]);
        position = { ...position, offset: reply.headers['electric-offset'] };
    }
});

test('a rotation that happens together with the request is not missed', async () => {
    for (let n = 0; n < 15; n++) {
        await suite.db.sql(`insert into gone values (${n}, 'x') on conflict do nothing`);
        const position = await readToEnd(suite.server, { table: 'gone' });
        const write = suite.db.sql('truncate gone');
        const started = Date.now();
        const reply = await suite.server.shape({
            table: 'gone', offset: position.offset, handle: position.handle, live: true,
        });
        await write;
        if (reply.status !== 409) {
            // The insert may still come first; then the next request meets the rotation.
            const next = await suite.server.shape({
                table: 'gone', offset: reply.headers['electric-offset'], handle: position.handle, live: true,
            });
            expect(next.status).toBe(409);
        }
        expect(Date.now() - started).toBeLessThan(5_000);
    }
});

test('commits to other tables do not wake a waiter, which then reports a later LSN', async () => {
    const position = await readToEnd(suite.server, { table: 'items' });
    await readToEnd(suite.server, { table: 'other' });
    const [{ lsn }] = await suite.db.sql("select (pg_current_wal_lsn() - '0/0')::bigint as lsn");
    const waiting = suite.server.shape({
        table: 'items', offset: position.offset, handle: position.handle, live: true,
    });
    await sleep(200);
    await suite.db.sql("insert into other values (1, 'x')");
    const reply = await waiting;
    expect(reply.tookMs).toBeGreaterThan(1_500);
    expect(reply.headers['electric-has-data']).toBe('false');
    expect(reply.headers['electric-offset']).toBe(position.offset);
    const [message] = reply.json();
    expect(BigInt(message.headers.global_last_seen_lsn)).toBeGreaterThanOrEqual(BigInt(lsn));
});

test('commits to other tables send nothing on an event stream', async () => {
    const position = await readToEnd(suite.server, { table: 'items' });
    const stream = suite.server.open({
        table: 'items', offset: position.offset, handle: position.handle, live: true, live_sse: true,
    });
    await stream.opened;
    await suite.db.sql("insert into other values (2, 'x') on conflict do nothing");
    await sleep(300);
    expect(stream.events).toEqual([]);
    await suite.db.sql("update items set v = 'seen' where id = 1");
    await until('the change', () => stream.events.length === 2);
    stream.leave();
});

test('200 waiters of one shape are all answered by one change', async () => {
    const position = await readToEnd(suite.server, { table: 'items' });
    const waiting = Array.from({ length: 200 }, () =>
        suite.server.shape({
            table: 'items', offset: position.offset, handle: position.handle, live: true,
        }));
    await sleep(300);
    await suite.db.sql("update items set v = 'for all' where id = 1");
    const replies = await Promise.all(waiting);
    expect(new Set(replies.map((r) => r.text)).size).toBe(1);
    expect(replies[0].headers['electric-has-data']).toBe('true');
});

describe('an event stream', () => {
    test('sends each commit at once with its own up-to-date', async () => {
        const position = await readToEnd(suite.server, { table: 'items' });
        const stream = suite.server.open({
            table: 'items', offset: position.offset, handle: position.handle, live: true, live_sse: true,
        });
        await stream.opened;
        for (let n = 0; n < 5; n++) {
            await suite.db.sql(`update items set v = 'sse${n}' where id = 1`);
            await until('the commit', () => stream.events.length === 2 * (n + 1));
        }
        const lsns = stream.events.filter((e) => e.headers.control).map((e) => BigInt(e.headers.global_last_seen_lsn));
        expect(lsns).toEqual([...lsns].sort((a, b) => (a < b ? -1 : 1)));
        stream.events.filter((e) => e.headers.lsn).forEach((e, i) => expect(BigInt(e.headers.lsn)).toBe(lsns[i]));
        stream.leave();
    });

    test('sends a large transaction whole', async () => {
        const position = await readToEnd(suite.server, { table: 'other' });
        const stream = suite.server.open({
            table: 'other', offset: position.offset, handle: position.handle, live: true, live_sse: true,
        });
        await stream.opened;
        await suite.db.sql("insert into other select i, repeat('x', 1000) from generate_series(1000, 5999) i");
        await until('the transaction', () => stream.events.at(-1)?.headers.control === 'up-to-date' && stream.events.length >= 5001, 30_000, 50);
        expect(stream.events.length).toBe(5001);
        stream.leave();
    });
});

describe('a reader that does not read', () => {
    test('keeps nobody waiting and does not grow the server without bound', async () => {
        await suite.db.sql("create table big(id int primary key, v text); insert into big select i, repeat(md5(i::text), 100) from generate_series(1, 20000) i");
        await readToEnd(suite.server, { table: 'big' });
        const stalled = Array.from({ length: 30 }, () =>
            suite.server.open({ table: 'big', offset: -1 }));
        for (const open of stalled) {
            await open.opened;
            open.pause();
        }
        await sleep(500);
        const started = Date.now();
        const reply = await suite.server.shape({ table: 'items', offset: -1 });
        expect(reply.status).toBe(200);
        expect(Date.now() - started).toBeLessThan(3_000);
        const rss = residentBytes(suite.server.pid);
        // 30 bodies of 10 MB each would be 300 MB if they were copied per reader.
        expect(rss).toBeLessThan(250 * 1024 * 1024);
        for (const open of stalled) open.leave();
    });
});


function residentBytes(pid: number): number {
    const line = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return Number(line?.[1] ?? 0) * 1024;
}

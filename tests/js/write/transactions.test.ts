// POST /v1/transactions and /v1/rpc: what is applied, what is refused and in which words, and that
// nothing of a refused one is left.
import { describe, expect, test } from 'vitest';
import { API_SECRET, authToken, bearer, GATE_ENV } from '../support/tokens.js';
import type { Reply } from '../support/http.js';
import { until } from '../support/process.js';
import { readToEnd } from '../support/shapes.js';
import { useSuite } from '../support/suite.js';
import { WRITE_ENV, WRITE_WORLD } from './world.js';

const suite = useSuite('transactions', {
    setup: WRITE_WORLD,
    env: {
        ...GATE_ENV, ...WRITE_ENV, COULOMB_WRITE_MAX_MUTATIONS: '5', COULOMB_WRITE_MAX_BODY: '20000',
        COULOMB_WRITE_TIMEOUT: '2s',
    },
});

type Mutation = Record<string, unknown>;

const send = (body: unknown, sub = 'amira', headers = {}): Promise<Reply> =>
    suite.server.get('/v1/transactions', {
        method: 'POST', body, headers: { ...bearer(authToken(sub)), ...headers },
    });
const one = (mutation: Mutation, sub = 'amira', id?: string): Promise<Reply> =>
    send({ id, mutations: [mutation] }, sub);
const insert = (values: unknown, table = 'todos'): Mutation => ({ op: 'insert', table, values });
const refusal = (reply: Reply): unknown[] => {
    const { success, code, mutation, column } = reply.json();
    expect(success).toBe(false);
    return [reply.status, code, mutation, column];
};
const call = (name: string, body: unknown = {}, headers = {}): Promise<Reply> =>
    suite.server.get(`/v1/rpc/${name}`, {
        method: 'POST', body, headers: { ...bearer(authToken('amira')), ...headers },
    });
const titles = async (): Promise<string[]> =>
    (await suite.db.sql('select title from todos order by id')).map((r) => r.title);

let next = 100;

describe('applied', () => {
    test('insert, update, upsert, delete, all in one transaction whose txid the stream has', async () => {
        await suite.db.sql(`insert into todos(id, owner, title) values (1, 'amira', 'old'), (2, 'amira', 'gone')`);
        const params = { table: 'todos', secret: API_SECRET };
        const before = await readToEnd(suite.server, params);
        const reply = await send({ mutations: [
            insert({ id: 3, title: 'new' }),
            { op: 'update', table: 'todos', key: { id: 1 }, values: { title: 'changed', done: true } },
            { op: 'upsert', table: 'todos', values: { id: 3, title: 'newer' } },
            { op: 'upsert', table: 'public.todos', values: { id: 4, title: 'upserted' } },
            { op: 'delete', table: 'todos', key: { id: 2 } },
        ] });
        expect(reply.status).toBe(200);
        const { txid, lsn } = reply.json();
        expect(typeof txid).toBe('number');
        expect(await titles()).toEqual(['changed', 'newer', 'upserted']);
        const seen: any[] = [];
        for (let at = before; seen.length < 4;) {
            at = await readToEnd(suite.server, params, at);
            seen.push(...at.messages.filter((m) => m.headers.operation));
        }
        expect(seen.every((m) => m.headers.txids.includes(txid))).toBe(true);
        expect(BigInt(lsn)).toBeGreaterThanOrEqual(BigInt(seen[0].headers.lsn));
        await suite.db.sql('delete from todos');
    });

    test('values of every kind, digit for digit', async () => {
        const numeric = '123456789012345678901234567890.123456789';
        const body = `{"mutations":[{"op":"insert","table":"kinds","values":{"id":1,"n":${numeric},` +
            '"j":{"a":[1,2.50],"b":"x"},"js":"text","a":[1,null,3],"t":["a b","q\\"uote","b\\\\s",null,"NULL"],' +
            '"aj":[{"x":1},[2],"s"],"ts":"2026-01-31T12:00:00Z","b":"\\\\x00ff","u":"5f0c9a6e-0000-4000-8000-000000000001",' +
            '"f":1e-7,"We\\"ird, col":"; drop table todos; --"}}]}';
        expect((await send(body)).status).toBe(200);
        const [row] = await suite.db.sql(`select n::text, j, js::text, a, t, aj, f::text, "We""ird, col" as w from kinds`);
        expect(row).toEqual({
            n: numeric, j: '{"a": [1, 2.50], "b": "x"}', js: '"text"', a: '{1,NULL,3}',
            t: '{"a b","q\\"uote","b\\\\s",NULL,"NULL"}', aj: '{"{\\"x\\": 1}",[2],"\\"s\\""}', f: '1e-07',
            w: '; drop table todos; --',
        });
    });

    test('rows are named by the whole key', async () => {
        await one(insert({ a: 1, b: 'x', v: 'old' }, 'pairs'));
        const update = (key: unknown): Mutation => ({ op: 'update', table: 'pairs', key, values: { v: 'new' } });
        expect((await one(update({ a: 1, b: 'x' }))).status).toBe(200);
        for (const key of [{ a: 1 }, { a: 1, v: 'new' }, { a: 1, b: 'x', v: 'new' }]) {
            expect(refusal(await one(update(key)))).toEqual([400, 'invalid_request', 0, undefined]);
        }
        expect((await one(insert({ v: 'x' }, 'keyless'))).status).toBe(200);
        expect((await one({ op: 'delete', table: 'keyless', key: { v: 'x' } })).status).toBe(400);
        expect((await one({ op: 'upsert', table: 'keyless', values: { v: 'x' } })).status).toBe(400);
    });

    test('only on what was expected', async () => {
        await one(insert({ id: 50, title: 'a', note: null }));
        const update = (expected: unknown): Promise<Reply> =>
            one({ op: 'update', table: 'todos', key: { id: 50 }, values: { title: 'b' }, expect: expected });
        for (const expected of [{ title: 'x' }, { title: 'a', note: 'x' }, { done: true }]) {
            expect(refusal(await update(expected))).toEqual([409, 'precondition_failed', 0, undefined]);
        }
        expect((await update({ title: 'a', note: null, done: false })).status).toBe(200);
        expect(refusal(await one({ op: 'delete', table: 'todos', key: { id: 50 }, expect: { title: 'a' } })))
            .toEqual([409, 'precondition_failed', 0, undefined]);
        expect((await one({ op: 'delete', table: 'todos', key: { id: 50 }, expect: { title: 'b' } })).status).toBe(200);
    });

    test('a row that is not there is told, or passed over', async () => {
        const gone = (extra = {}): Mutation => ({ op: 'delete', table: 'todos', key: { id: 9999 }, ...extra });
        expect(refusal(await one(gone()))).toEqual([404, 'not_found', 0, undefined]);
        expect((await one(gone({ if_missing: 'ignore' }))).json()).toMatchObject({ success: true, txid: null });
    });

    test('a list is applied in order until one is refused', async () => {
        const id = next++;
        const reply = await send([
            { id: `l${id}a`, mutations: [insert({ id, title: 'first' })] },
            { id: `l${id}b`, mutations: [insert({ id: id + 1000, title: 'x' }), insert({ id, title: 'twice' })] },
            { id: `l${id}c`, mutations: [insert({ id: id + 2000, title: 'third' })] },
        ]);
        expect(reply.status).toBe(409);
        const { success, transactions } = reply.json();
        expect([success, transactions.length]).toEqual([false, 2]);
        expect(transactions[0]).toMatchObject({ success: true, id: `l${id}a` });
        expect(transactions[1]).toMatchObject({ success: false, code: 'unique_violation', mutation: 1 });
        expect(await suite.db.sql(`select id from todos where id in (${id + 1000}, ${id + 2000})`)).toEqual([]);
    });
});

describe('once', () => {
    test('the same id again is answered, not applied', async () => {
        const id = next++;
        const body = { id: `once-${id}`, mutations: [insert({ id, title: 'once' })] };
        const first = (await send(body)).json();
        const again = (await send(body)).json();
        expect(again).toMatchObject({ success: true, txid: first.txid, replayed: true });
        expect(BigInt(again.lsn)).toBeGreaterThanOrEqual(BigInt(first.lsn));
    });

    test('with another request it is refused', async () => {
        const id = next++;
        await send({ id: `r-${id}`, mutations: [insert({ id, title: 'a' })] });
        const other = await send({ id: `r-${id}`, mutations: [insert({ id: id + 5000, title: 'b' })] });
        expect(refusal(other)).toEqual([409, 'id_reused', undefined, undefined]);
        expect(other.text).not.toContain('applied');
        expect(await suite.db.sql(`select from todos where id = ${id + 5000}`)).toEqual([]);
    });

    test("another subject's id is not theirs to use or to see", async () => {
        const id = next++;
        const body = { id: `s-${id}`, mutations: [insert({ id, title: 'amira' })] };
        const first = await send(body, 'amira');
        const other = await send({ ...body, mutations: [insert({ id: id + 6000, title: 'ben' })] }, 'ben');
        expect([other.status, other.json().replayed]).toEqual([200, undefined]);
        expect(other.json().txid).not.toBe(first.json().txid);
        // The very same request, replayed by somebody else, is theirs: and fails as theirs.
        expect(refusal(await send({ ...body, id: `t-${id}` }, 'ben'))).toEqual([409, 'unique_violation', 0, 'id']);
    });

    test('raced by many at a time it is applied once', async () => {
        const id = `race-${next++}`;
        const body = { id, mutations: [{ op: 'update', table: 'counters', key: { id: 1 }, values: { n: 7 } },
            { op: 'insert', table: 'keyless', values: { v: id } }] };
        const replies = await Promise.all(Array.from({ length: 24 }, () => send(body)));
        expect(new Set(replies.map((r) => r.status))).toEqual(new Set([200]));
        expect(new Set(replies.map((r) => r.json().txid)).size).toBe(1);
        expect(replies.filter((r) => !r.json().replayed).length).toBe(1);
        expect((await suite.db.sql('select from keyless where v = $1', [id])).length).toBe(1);
    });

    test('for as long as ids are kept', async () => {
        await suite.db.sql(`insert into coulomb.applied(subject, id, request, at)
            values ('amira', 'old', '', now() - interval '2 minutes'), ('amira', 'young', '', now())`);
        const server = await suite.another({ COULOMB_WRITE_KEEP_IDS: '60s' });
        await server.get('/v1/transactions', {
            method: 'POST', body: { mutations: [insert({ v: 'x' }, 'keyless')] }, headers: bearer(authToken('amira')),
        });
        await until('the old id to be gone', async () =>
            (await suite.db.sql(`select from coulomb.applied where id = 'old'`)).length === 0);
        expect((await suite.db.sql(`select from coulomb.applied where id = 'young'`)).length).toBe(1);
        await server.close();
    });

    test('a refused one takes no id: mended, it may be sent again', async () => {
        const id = next++;
        expect((await send({ id: `m-${id}`, mutations: [insert({ id, title: '' })] })).status).toBe(422);
        expect((await send({ id: `m-${id}`, mutations: [insert({ id, title: 'mended' })] })).status).toBe(200);
    });
});

describe('refused', () => {
    test('by constraints, with the column and the mutation', async () => {
        const id = next++;
        await one(insert({ id, title: 'there' }));
        const cases: [Mutation, unknown[]][] = [
            [insert({ id, title: 'x' }), [409, 'unique_violation', 0, 'id']],
            [insert({ id: id + 1, title: '' }), [422, 'check_violation', 0, 'title']],
            [insert({ id: id + 1, title: null }), [422, 'not_null_violation', 0, 'title']],
            [insert({ id: id + 1, title: 'x', list: 77 }), [422, 'foreign_key_violation', 0, 'list']],
            [insert({ id: 'abc', title: 'x' }), [422, 'invalid_value', 0, 'id']],
            [insert({ id: 1e30, title: 'x' }), [422, 'invalid_value', 0, 'id']],
            [insert({ id: id + 1, title: { a: 1 } }), [422, 'invalid_value', 0, 'title']],
            [insert({ id: id + 1, title: 'x', done: 'maybe' }), [422, 'invalid_value', 0, 'done']],
            [insert({ id: 5, v: 'x' }, 'generated'), [422, 'invalid_value', 0, undefined]],
        ];
        for (const [mutation, wanted] of cases) {
            const reply = await send({ mutations: [insert({ id: id + 10, title: 'with' }), mutation] });
            const want = [...wanted];
            want[2] = 1;
            expect([mutation, refusal(reply)]).toEqual([mutation, want]);
            expect(reply.text).not.toMatch(/DETAIL|Failing row|abc|INSERT|SELECT/);
        }
        expect(refusal(await one(insert({ id: id + 1, title: 'x', note: 'too long' }))))
            .toEqual([422, 'invalid_value', 0, undefined]);
        expect(await suite.db.sql(`select from todos where id = ${id + 10}`)).toEqual([]);
    });

    test('forbidden tables, columns and rows: one answer for what is not there and what is not theirs', async () => {
        await suite.db.sql(`insert into todos(id, owner, title) values (900, 'ben', 'his')`);
        const forbidden = [
            insert({ id: 1 }, 'private'), insert({ id: 1 }, 'no_such'), insert({ id: 1 }, 'coulomb.applied'),
            insert({ id: 1 }, 'pg_catalog.pg_class'), insert({ id: 1 }, 'app.x'),
            insert({ id: 1 }, 'private; drop table todos'), insert({ id: 1 }, '"private"'),
            insert({ id: 901, title: 'x', locked: 'y' }), insert({ id: 901, title: 'x', no_such: 'y' }),
            insert({ id: 901, title: 'x', 'title") values (1); --': 'y' }),
            insert({ id: 901, title: 'x', owner: 'ben' }),
            { op: 'update', table: 'todos', key: { id: 900 }, values: { locked: 'x' } },
            { op: 'upsert', table: 'todos', values: { id: 900, title: 'mine now' } },
        ];
        for (const mutation of forbidden) {
            const reply = await one(mutation);
            expect([mutation, reply.status, reply.json().code]).toEqual([mutation, 403, 'forbidden']);
        }
        for (const mutation of [
            { op: 'update', table: 'todos', key: { id: 900 }, values: { title: 'mine' } },
            { op: 'delete', table: 'todos', key: { id: 900 } },
            { op: 'update', table: 'todos', key: { id: 900 }, values: { title: 'x' }, expect: { title: 'his' } },
        ]) expect([404, 409]).toContain((await one(mutation)).status);
        expect(await suite.db.sql('select owner, title from todos where id = 900')).toEqual([{ owner: 'ben', title: 'his' }]);
        expect((await one({ op: 'update', table: 'todos', key: { id: 900 }, values: { owner: 'amira' } }, 'ben')).status).toBe(403);
    });

    test('bodies that make no sense, with a sentence', async () => {
        const bodies: unknown[] = [
            '', ' ', 'x', '7', 'null', '"x"', '{', '[', '{}', '[]', '{"mutations":[]}', '{"mutations":{}}',
            '{"mutations":[7]}', '{"mutations":[{}]}', '{"mutations":[[]]}', { transactions: [] },
            { mutations: [insert({})] }, { mutations: [{ op: 'insert', table: 'todos' }] },
            { mutations: [{ op: 'drop', table: 'todos', values: { id: 1 } }] },
            { mutations: [{ op: 'insert', table: 7, values: { id: 1 } }] },
            { mutations: [{ op: 'insert', table: '', values: { id: 1 } }] },
            { mutations: [{ op: 'update', table: 'todos', values: { id: 1 } }] },
            { mutations: [{ op: 'delete', table: 'todos', key: { id: 1 }, values: {} }] },
            { mutations: [{ op: 'insert', table: 'todos', key: { id: 1 }, values: { id: 1 } }] },
            { mutations: [{ op: 'insert', table: 'todos', values: { id: 1 }, where: 'true' }] },
            { mutations: [{ op: 'insert', table: 'todos', values: { id: 1 }, if_missing: 'ignore' }] },
            { mutations: [insert({ id: 1 })], role: 'postgres' },
            { id: '', mutations: [insert({ id: 1 })] }, { id: 7, mutations: [insert({ id: 1 })] },
            { id: 'x'.repeat(201), mutations: [insert({ id: 1 })] }, { id: 'a\u0000b', mutations: [insert({ id: 1 })] },
            { mutations: [insert({ id: 1, title: 'a\u0000b' })] },
            '{"id":"a","id":"b","mutations":[]}', '{"mutations":[{"op":"insert","op":"delete"}]}',
            '{"mutations":[{"op":"insert","table":"todos","values":{"id":1,"id":2}}]}',
            '{"mutations":[{"op":"insert","table":"todos","values":{"id":1}}]} x',
            '{"transactions":[{"transactions":[]}]}', '['.repeat(9000),
            `{"mutations":[{"op":"insert","table":"kinds","values":{"id":7,"j":${'['.repeat(5000)}}}]}`,
        ];
        for (const body of bodies) {
            const reply = await send(body);
            const { success, code, message } = reply.json();
            expect([body, reply.status, success, code]).toEqual([body, 400, false, 'invalid_request']);
            expect(message.length).toBeGreaterThan(10);
        }
        expect(await suite.db.sql('select from todos where id = 1')).toEqual([]);
    });

    test('more than there may be', async () => {
        const many = Array.from({ length: 6 }, (_, i) => insert({ id: 7000 + i, title: 'x' }));
        expect(refusal(await send({ mutations: many }))).toEqual([413, 'too_large', undefined, undefined]);
        expect(refusal(await one(insert({ id: 7000, title: 'x'.repeat(20_001) })))).toEqual(
            [413, 'too_large', undefined, undefined]);
        const list = Array.from({ length: 101 }, (_, i) => ({ mutations: [insert({ id: 7100 + i, title: 'x' })] }));
        expect((await send(list)).status).toBe(413);
        expect(await suite.db.sql('select from todos where id between 7000 and 7300')).toEqual([]);
    });

    test('without a token, or with a role that is not listed', async () => {
        const body = { mutations: [insert({ id: 1, title: 'x' })] };
        expect((await suite.server.get('/v1/transactions', { method: 'POST', body })).status).toBe(401);
        for (const role of ['postgres', 'coulomb_editor', 'coulomb_user; reset role', '']) {
            const reply = await suite.server.get('/v1/transactions', {
                method: 'POST', body, headers: bearer(authToken('amira', { role })),
            });
            expect([role, reply.status]).toEqual([role, 403]);
        }
        expect((await suite.server.get('/v1/transactions')).status).toBe(405);
    });
});

describe('conflicts and faults', () => {
    test('a deadlock is tried again, and nobody hears of it', async () => {
        const replies = await Promise.all([call('cross', { a: 2, b: 3 }), call('cross', { a: 3, b: 2 })]);
        expect(replies.map((r) => r.status)).toEqual([200, 200]);
        const [{ n }] = await suite.db.sql('select sum(n)::int as n from counters where id in (2, 3)');
        expect(Number(n)).toBe(4); // each both, once
    });

    test('a lock that is held too long: 503, and when to come again', async () => {
        const db = await suite.db.session();
        await db.query('begin; update counters set n = 1 where id = 9');
        const reply = await one({ op: 'update', table: 'counters', key: { id: 9 }, values: { n: 2 } });
        await db.query('rollback');
        expect([reply.status, reply.json().code, reply.headers['retry-after']]).toEqual([503, 'timeout', '1']);
    });

    test('connections that are cut: what has an id is applied once, other work goes on', async () => {
        const cut = (): Promise<unknown> => suite.db.sql(`select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and query like '%applied%' and pid <> pg_backend_pid()`);
        const replies = await Promise.all(Array.from({ length: 30 }, async (_, i) => {
            if (i % 10 === 5) await cut();
            return send({ id: `cut-${i}`, mutations: [insert({ v: `cut-${i}` }, 'keyless')] });
        }));
        for (const [i, reply] of replies.entries()) {
            if (reply.status === 200) continue;
            expect(reply.status).toBe(503);
            expect((await send({ id: `cut-${i}`, mutations: [insert({ v: `cut-${i}` }, 'keyless')] })).status).toBe(200);
        }
        const rows = await suite.db.sql(`select v, count(*)::int as n from keyless where v like 'cut-%' group by 1`);
        expect(rows.length).toBe(30);
        expect(rows.every((r) => Number(r.n) === 1)).toBe(true);
    });

    test('a table that changes under the server', async () => {
        await suite.db.sql('create table changing(id int primary key, a text); grant all on changing to coulomb_user');
        expect((await one(insert({ id: 1, a: 'x' }, 'changing'))).status).toBe(200);
        await suite.db.sql('alter table changing rename a to b');
        expect((await one({ op: 'delete', table: 'changing', key: { id: 1 }, expect: { a: 'x' } })).status).toBe(403);
        expect((await one(insert({ id: 2, b: 'x' }, 'changing'))).status).toBe(200);
        await suite.db.sql('drop table changing');
        expect((await one(insert({ id: 3, b: 'x' }, 'changing'))).status).toBe(403);
    });
});

describe('functions', () => {
    test('are called by name, with named arguments', async () => {
        expect((await call('add', { a: 1 })).json()).toMatchObject({ success: true, txid: null, result: 2 });
        expect((await call('add', { b: 5, a: '2' })).json().result).toBe(7);
        expect((await call('nothing')).json().result).toBe(null);
        expect((await call('rows', { n: 3 })).json().result).toEqual([1, 2, 3]);
        expect((await call('who')).json().result).toBe('coulomb_user amira');
        expect((await call('tables', { names: ['a', 'b"c'], meta: { x: [1] } })).json().result)
            .toEqual({ n: ['a', 'b"c'], m: { x: [1] } });
        const made = (await call('make', { id: 3000 })).json();
        expect([typeof made.txid, made.success, made.result.made]).toEqual(['number', true, 3000]);
    });

    test('once with an id, with the same answer', async () => {
        const headers = { 'idempotency-key': 'call-1' };
        const first = (await call('make', { id: 3001 }, headers)).json();
        const again = (await call('make', { id: 3001 }, headers)).json();
        expect(again).toEqual({ ...first, lsn: again.lsn, replayed: true });
        expect((await call('make', { id: 3002 }, headers)).json().code).toBe('id_reused');
        expect((await call('add', { a: 1 }, headers)).json().code).toBe('id_reused');
        expect((await call('make', { id: 3003 }, { 'idempotency-key': 'x'.repeat(300) })).status).toBe(400);
    });

    test('only those of the schema that the role may call', async () => {
        for (const name of ['outside', 'no_such', 'twice', 'add; select 1', 'app.add', 'pg_sleep', 'ADD', '%22add%22']) {
            const reply = await call(encodeURIComponent(decodeURIComponent(name)), { a: 1 });
            expect([name, reply.status, reply.json().code]).toEqual([name, 404, 'unknown_function']);
        }
        expect((await call('closed')).json().code).toBe('forbidden');
        expect((await call('a/b')).status).toBe(404);
    });

    test('with arguments that they have', async () => {
        for (const body of [{}, { b: 1 }, { a: 1, c: 2 }, { 'a => 1); --': 1 }]) {
            expect([body, (await call('add', body)).status]).toEqual([body, 400]);
        }
        expect(refusal(await call('add', { a: 'x' }))).toEqual([422, 'invalid_value', undefined, undefined]);
        expect((await call('add', '[1]')).status).toBe(400);
    });

    test('say themselves why they refuse; nothing else is told', async () => {
        const said = await call('fails', { state: 'P0001' });
        expect([said.status, said.json().code, said.json().message]).toEqual([422, 'rejected', 'said by the app']);
        expect((await call('fails', { state: 'PT409' })).status).toBe(409);
        for (const [state, status, code] of [['XX001', 500, 'internal'], ['42501', 403, 'forbidden'],
            ['23505', 409, 'unique_violation'], ['40001', 503, 'conflict'], ['57014', 503, 'timeout']]) {
            const reply = await call('fails', { state });
            expect([state, reply.status, reply.json().code]).toEqual([state, status, code]);
            expect(reply.text).not.toMatch(/said by|secret detail/);
        }
        expect((await call('slow', { s: 60 })).json().code).toBe('timeout');
        expect(suite.server.log).not.toMatch(/said by|secret detail/);
    });
});

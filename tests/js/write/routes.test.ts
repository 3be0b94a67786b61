// Application routes: the API that the guide's and the write patterns' clients call.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { authToken, bearer, GATE_ENV, nowS } from '../support/tokens.js';
import type { Reply } from '../support/http.js';
import { IoFaults } from '../support/iofaults.js';
import { removeDir, sleep, tempDir, until } from '../support/process.js';
import { useSuite } from '../support/suite.js';
import { WRITE_ENV, WRITE_WORLD } from './world.js';

const dir = tempDir('routes');
afterAll(() => removeDir(dir));

const file = join(dir, 'routes.json');
const columns = ['id', 'owner', 'title', 'done', 'write_id'];
writeFileSync(file, JSON.stringify({ routes: [
    { method: 'GET', path: '/todos', shape: {
        table: 'todos', where: 'owner = $1', params: ['claims.sub'], columns, row_security: 'ignore' } },
    { method: 'GET', path: '/public/:list', auth: 'none',
        shape: { table: 'todos', where: 'list = $1', params: ['path.list'], columns, row_security: 'ignore' } },
    { method: 'GET', path: '/secured', shape: { table: 'todos', where: 'owner = $1', params: ['claims.sub'] } },
    { method: 'GET', path: '/open', shape: { table: 'counters' } },
    { method: 'GET', path: '/quoted', auth: 'none', shape: { table: 'app."Se.cured"' } },
    { method: 'POST', path: '/todos', required: ['id', 'title'], id: 'body.write_id', insert: { table: 'todos', values: {
        id: 'body.id', title: 'body.title', done: { value: false }, owner: 'claims.sub', write_id: 'body.write_id' } } },
    { method: 'PUT', path: '/todos/:id', update: { table: 'todos', key: { id: 'path.id' },
        values: { done: 'body.completed', write_id: 'body.write_id' } } },
    { method: 'DELETE', path: '/todos/:id', delete: { table: 'todos', key: { id: 'path.id' }, if_missing: 'ignore' } },
    { method: 'POST', path: '/changes', changes: { table: 'todos', columns: ['id', 'title', 'done', 'write_id'] } },
    { method: 'POST', path: '/questions/send', function: { name: 'app.send',
        args: { conversation: 'body.conversationId', question: 'body.questionId', me: 'claims.sub' } } },
    { method: 'POST', path: '/make', function: { name: 'app.make' } },
    { method: 'POST', path: '/who', auth: 'none', function: { name: 'app.anyone' } },
    { method: 'POST', path: '/tenants/:tenant', function: { name: 'app.needs', args: { org: 'claims.org.id', tenant: 'path.tenant' } } },
] }));

const suite = useSuite('routes', {
    setup: `${WRITE_WORLD}
        create function app.send(conversation text, question int, me text) returns jsonb language plpgsql as $$
        begin
            insert into todos(id, title) values (question, conversation || ' by ' || me);
            return jsonb_build_object('questionId', question, 'txid', 'not this', 'nested', '{"a": [1]}'::jsonb);
        end $$;
        create table app."Se.cured"(id int primary key);
        alter table app."Se.cured" enable row level security;
        create function app.anyone() returns jsonb language sql as $$ select jsonb_build_object('as', current_user) $$;
        create function app.needs(org text, tenant text) returns text language sql as $$ select org || tenant $$;`,
    env: { ...GATE_ENV, ...WRITE_ENV, COULOMB_ROUTES_FILE: file },
});

const send = (method: string, path: string, body?: unknown, sub: string | null = 'amira', headers = {}): Promise<Reply> =>
    suite.server.get(path, { method, body, headers: { ...(sub ? bearer(authToken(sub, { org: sub === 'amira' ? { id: 'o' } : undefined })) : {}), ...headers } });
const row = async (id: number): Promise<any> => (await suite.db.sql(
    'select owner, title, done, write_id from todos where id = $1', [id]))[0];

describe('single rows', () => {
    test('POST, PUT, DELETE as the write patterns call them', async () => {
        const made = await send('POST', '/todos', { id: 1, title: 'oats', created_at: 'ignored', write_id: 'w1' });
        expect(made.json()).toMatchObject({ success: true, status: 'OK' });
        expect(typeof made.json().txid).toBe('number');
        expect(await row(1)).toEqual({ owner: 'amira', title: 'oats', done: 'f', write_id: 'w1' });
        expect((await send('PUT', '/todos/1', { completed: true })).status).toBe(200);
        expect(await row(1)).toEqual({ owner: 'amira', title: 'oats', done: 't', write_id: 'w1' });
        expect((await send('DELETE', '/todos/1')).status).toBe(200);
        expect(await row(1)).toBe(undefined);
        expect((await send('DELETE', '/todos/1')).status).toBe(200);
    });

    test('the id of the route makes it idempotent, the header goes before', async () => {
        const body = { id: 2, title: 'x', write_id: 'w2' };
        const first = (await send('POST', '/todos', body)).json();
        expect((await send('POST', '/todos', body)).json()).toMatchObject({ txid: first.txid, replayed: true });
        expect((await send('POST', '/todos', body, 'amira', { 'idempotency-key': 'h' })).status).toBe(409);
    });

    test('refusals', async () => {
        for (const body of [{ id: 3 }, { title: 'x' }, { id: 3, title: null }, '', 'x', '[]']) {
            const reply = await send('POST', '/todos', body);
            expect([body, reply.status]).toEqual([body, 400]);
            expect(reply.json().errors).toEqual([reply.json().message]);
        }
        expect((await send('POST', '/todos', { id: 3, title: '' })).json()).toMatchObject(
            { code: 'check_violation', column: 'title' });
        expect((await send('PUT', '/todos/2', {})).status).toBe(400);
        expect((await send('PUT', '/todos/2', { completed: 'maybe' })).status).toBe(422);
        expect((await send('PUT', '/todos/nan', { completed: true })).status).toBe(422);
        expect((await send('PUT', '/todos/99', { completed: true })).status).toBe(404);
        expect((await send('PUT', '/todos/2', { completed: true }, 'ben')).status).toBe(404);
        expect((await send('POST', '/todos', { id: 3, title: 'x' }, null)).status).toBe(401);
        // The owner is the claim's, whatever the body says.
        await send('POST', '/todos', { id: 4, title: 'x', owner: 'ben', done: true });
        expect(await row(4)).toMatchObject({ owner: 'amira', done: 'f' });
        expect((await send('PATCH', '/todos/2', {})).status).toBe(405);
        for (const path of ['/todos/2/x', '/todo', '/todos/2%2f3', '/Todos']) {
            expect([path, (await send('PUT', path, { completed: true })).status]).toEqual([path, 404]);
        }
    });
});

test('POST /changes is one transaction', async () => {
    const change = (operation: string, value: unknown, write_id = 'w') => ({ operation, value, write_id });
    const good = [
        { id: '9', changes: [change('insert', { id: 20, title: 'a' }, 'w20'), change('update', { id: 20, done: true }, 'w21')] },
        { id: '10', changes: [change('insert', { id: 21, title: 'b', created_at: 'x' }), change('delete', { id: 21 })] },
    ];
    const reply = await send('POST', '/changes', good);
    expect([reply.status, reply.json().success, typeof reply.json().txid]).toEqual([200, true, 'number']);
    expect(await row(20)).toEqual({ owner: 'amira', title: 'a', done: 't', write_id: 'w21' });
    expect(await row(21)).toBe(undefined);
    const bad = [{ id: '1', changes: [change('insert', { id: 22, title: 'c' }), change('insert', { id: 23, title: '' })] }];
    expect((await send('POST', '/changes', bad)).json()).toMatchObject({ code: 'check_violation', mutation: 1 });
    expect(await row(22)).toBe(undefined);
    expect((await send('POST', '/changes', [{ id: '2', changes: [change('update', { id: 77, title: 'x' })] }])).status).toBe(404);
    for (const body of ['', '{}', '[]', '[7]', [{ changes: 7 }], [{ changes: [7] }], [{ changes: [{}] }],
        [{ changes: [change('drop', { id: 1 })] }], [{ changes: [change('insert', 7)] }],
        [{ changes: [change('insert', { title: 'x' })] }], [{ changes: [change('update', { id: 1 }, undefined as any)] }]]) {
        const wrong = await send('POST', '/changes', body);
        expect([body, [400, 404].includes(wrong.status)]).toEqual([body, true]);
    }
});

describe('functions', () => {
    test('as the guide sends questions', async () => {
        const reply = await send('POST', '/questions/send', { conversationId: 'c1', questionId: 30, answerId: 31, content: 'x' });
        const { success, txid, questionId, nested } = reply.json();
        expect([success, typeof txid, questionId, nested]).toEqual([true, 'number', 30, { a: [1] }]);
        expect(await row(30)).toMatchObject({ title: 'c1 by amira' });
        expect((await send('POST', '/questions/send', { conversationId: 'c1' })).status).toBe(400);
    });

    test('take the body whole, or parts of the path, or refuse without the claim', async () => {
        expect((await send('POST', '/make', { id: 40 })).json()).toMatchObject({ success: true, made: 40 });
        expect((await send('POST', '/tenants/t1')).json().result).toBe('ot1');
        expect((await send('POST', '/tenants/t1', undefined, 'ben')).status).toBe(403);
    });

    test('for everybody, when the route says so', async () => {
        expect((await send('POST', '/who', undefined, null)).json()).toMatchObject({ as: 'coulomb_anonymous' });
        expect((await send('POST', '/who')).json()).toMatchObject({ as: 'coulomb_anonymous' });
    });
});

describe('shapes', () => {
    const owners = (reply: Reply): string[] =>
        [...new Set<string>(reply.json().filter((m: any) => m.value).map((m: any) => m.value.owner))].sort();

    test('are those of the caller, whatever the query says', async () => {
        await suite.db.sql(`insert into todos(id, owner, title, list) values (60, 'ben', 'his', 1), (61, 'amira', 'hers', null)`);
        for (const query of ['', '&table=private', '&where=true', '&params[1]=ben', '&columns=locked,id']) {
            const reply = await send('GET', `/todos?offset=-1${query}`);
            expect([query, reply.status, owners(reply)]).toEqual([query, 200, ['amira']]);
            expect(reply.headers.vary).toContain('authorization');
            expect(Object.keys(reply.json()[0].value).sort()).toEqual([...columns].sort());
        }
        expect((await send('GET', '/todos?offset=-1', undefined, null)).status).toBe(401);
        const late = bearer(authToken('amira', { exp: nowS() - 5 })); // within the clocks' difference
        const reply = await suite.server.get('/todos?offset=-1', { headers: late });
        expect([reply.status, reply.headers['cache-control']]).toEqual(
            [200, 'public, max-age=0, stale-while-revalidate=0']); // but caches go by the token
        expect(owners(await send('GET', '/public/1?offset=-1&params[1]=2', undefined, null))).toEqual(['ben']);
        expect((await send('GET', "/public/1'%20OR%20true--?offset=-1", undefined, null)).status).toBe(400);
    });
});

describe('a shape of a table with row-level security', () => {
    const status = async (path: string, sub: string | null = 'amira'): Promise<number> =>
        (await send('GET', path, undefined, sub)).status;

    test('is refused, unless the file says that it may be passed by', async () => {
        const before = suite.server.log.length;
        const reply = await send('GET', '/secured?offset=-1');
        expect([reply.status, reply.json()]).toEqual([403, {
            success: false, code: 'forbidden', message: 'access to this shape is not allowed' }]);
        expect(await status('/quoted?offset=-1', null)).toBe(403);
        expect(await status('/secured?offset=-1')).toBe(403);
        expect(suite.server.log.slice(before)).toMatch(/gate\.table_refused table=todos .*row_security/);
        expect(await status('/secured?offset=-1', null)).toBe(401);
        expect(await status('/todos?offset=-1')).toBe(200);
    });

    test('counts from when it is secured; what is known stands while Postgres is away', async () => {
        const faults = new IoFaults();
        await suite.server.stop();
        Object.assign(suite.server.env, faults.env(suite.server.storageDir, suite.db.cluster.port));
        await suite.server.launch();
        await suite.server.active();
        const first = await send('GET', '/open?offset=-1');
        expect(first.status).toBe(200);
        const next = `/open?offset=${first.headers['electric-offset']}&handle=${first.headers['electric-handle']}`;
        faults.arm({ kind: 'connect', errno: 'ECONNREFUSED', sticky: true });
        await suite.db.sql(`select pg_terminate_backend(pid) from pg_stat_activity
            where pid <> pg_backend_pid() and datname = current_database()`);
        await sleep(1_200);
        expect(await status(next)).toBe(200);
        expect(await status('/secured?offset=-1')).toBe(503);
        faults.disarm();
        await suite.server.active();
        await suite.db.sql('alter table counters enable row level security');
        await until('the refusal', async () => (await status(next)) === 403);
        await suite.db.sql('alter table counters disable row level security');
        await until('the shape', async () => (await status('/open?offset=-1')) === 200);
        faults.close();
    });
});

test('a routes file that makes no sense stops the server', async () => {
    const server = await suite.another({ COULOMB_ROUTES_FILE: '' });
    await server.stop();
    const route = { method: 'POST', path: '/x', function: { name: 'app.add' } };
    const wrong: [unknown, RegExp][] = [
        ['{', /line 1/], [{}, /routes/], [{ routes: [7] }, /method/], [{ routes: [{ ...route, method: 'get' }] }, /GET/],
        [{ routes: [{ ...route, path: 'x' }] }, /slash/], [{ routes: [{ ...route, path: '/v1/shape' }] }, /own/],
        [{ routes: [{ ...route, path: '/a//b' }] }, /segment/], [{ routes: [{ ...route, shape: {} }] }, /one of/],
        [{ routes: [{ ...route, function: { name: 'app.add', args: { a: 'env.HOME' } } }] }, /source/],
        [{ routes: [{ ...route, auth: 'maybe' }] }, /auth/],
        [{ routes: [{ method: 'GET', path: '/x', shape: { table: 't', wher: 'a = 1' } }] }, /"wher" means nothing/],
        [{ routes: [{ method: 'GET', path: '/x', shape: { table: 't', row_security: 'off' } }] }, /"ignore"/],
        [{ routes: [{ ...route, requires: ['a'] }] }, /"requires" means nothing/],
        [{ routes: [{ method: 'PUT', path: '/x', update: { table: 't', key: { id: 'body.id' }, value: {} } }] }, /"value"/],
        [{ routes: [{ method: 'POST', path: '/x', insert: { table: 't', values: { a: 'body.a' }, if_missing: 'ignore' } }] },
            /"if_missing"/],
    ];
    for (const [text, sentence] of wrong) {
        writeFileSync(join(dir, 'wrong.json'), typeof text === 'string' ? text : JSON.stringify(text));
        const before = server.log.length;
        const code = await server.launchExpectingExit({ COULOMB_ROUTES_FILE: join(dir, 'wrong.json') });
        expect([text, code]).toEqual([text, 2]);
        expect(server.log.slice(before)).toMatch(sentence);
    }
});

// Grants and guarded shapes: what a token lets through, and everything that it does not.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect as connectTcp } from 'node:net';
import { afterAll, describe, expect, test } from 'vitest';
import { openSse } from './sse.js';
import { removeDir, sleep, tempDir } from '../support/process.js';
import { useSuite } from '../support/suite.js';
import {
    API_SECRET, authToken, bearer, GATE_ENV, hmac, makeToken, nowS, shapeToken,
} from '../support/tokens.js';
import { contents, gate, WORLD, WORLD_ENV } from './world.js';

const suite = useSuite('guarded', {
    setup: WORLD, env: { ...GATE_ENV, ...WORLD_ENV, COULOMB_GATE_TIMEOUT: '1s' },
});
const { ask, shape, granted } = gate(suite);

const dir = tempDir('policy');
afterAll(() => removeDir(dir));

const C1 = { table: 'messages', params: { conversationId: 'c1' } };

describe('the exchange', () => {
    test('gives a token for what the function grants, and that shape', async () => {
        const reply = await shape(await granted());
        expect(contents(reply)).toEqual(['hello', 'world']);
        expect(Object.keys(reply.json()[0].value).sort()).toEqual(['content', 'conversation_id', 'id']);
    });

    test('forbids what the function refuses', async () => {
        const table = (name: string): unknown => ({ table: name });
        for (const body of [{ ...C1, params: { conversationId: 'c2' } }, table('secrets'), table('nope'),
            table('raised'), table('messages; drop table messages'), table('public.messages ')]) {
            const reply = await ask(authToken('amira'), body);
            expect([body, reply.status, reply.json().code]).toEqual([body, 403, 'forbidden']);
            expect(reply.headers['cache-control']).toBe('no-store');
        }
    });

    test('gives a token for nothing when a parameter is missing', async () => {
        expect(contents(await shape(await granted('amira', null)))).toEqual([]);
    });

    test('tells nothing of a function that fails, answers nonsense or takes too long', async () => {
        for (const table of ['boom', 'garbage', 'slow']) {
            const reply = await ask(authToken('amira'), { table });
            expect([table, reply.status, reply.json().code]).toEqual([table, 500, 'internal']);
            expect(reply.text).not.toMatch(/top secret|app\.|SELECT/);
        }
        expect(suite.server.log).not.toContain('top secret');
    });

    test('calls it under the role of the token, with its claims', async () => {
        for (const [claims, role] of [[{}, 'coulomb_user'], [{ role: 'coulomb_user' }, 'coulomb_user']] as const) {
            const { where, params } = (await ask(authToken('amira', claims), {}, '/gatekeeper/who')).json();
            expect([where, params]).toEqual(['content = $1', [`${role} amira`]]);
        }
        expect((await ask(authToken('amira', { role: 'postgres' }), C1)).status).toBe(403);
    });

    test('refuses bodies that are none', async () => {
        for (const body of ['', 'x', '[]', '{}', '{"table":7}', '{"table":""}', `{"table":"${'x'.repeat(300)}"}`,
            '{"table":"messages","table":"secrets"}', '['.repeat(5000), '{"table":"a\\u0000b"}']) {
            const reply = await ask(authToken('amira'), body);
            expect([body.slice(0, 40), reply.status]).toEqual([body.slice(0, 40), 400]);
        }
        expect((await ask(authToken('amira'), `{"table":"${'x'.repeat(1100000)}"}`)).status).toBe(413);
    });

    test('equal grants have one token, byte for byte, whoever asks', async () => {
        await suite.db.sql("insert into members values ('c1', 'carl')");
        expect(await granted('carl')).toBe(await granted('amira'));
        expect(await granted('ben', 'c2')).not.toBe(await granted('amira'));
        const payload = JSON.parse(Buffer.from((await granted()).split('.')[1], 'base64url').toString());
        expect(Object.keys(payload)).toEqual(['aud', 'exp', 'shape']);
        expect(JSON.stringify(payload)).not.toMatch(/amira|carl/);
    });

    test('limits how often one caller may ask', async () => {
        const server = await suite.another({ COULOMB_GATE_RATE: '2' });
        const once = (sub: string) => server.get('/shapes/auth-token', {
            method: 'POST', body: C1, headers: bearer(authToken(sub)),
        });
        const statuses = [];
        for (let i = 0; i < 12; i++) statuses.push((await once('amira')).status);
        expect(statuses[0]).toBe(200);
        const refused = await once('amira');
        expect(statuses.includes(429)).toBe(true);
        if (refused.status === 429) expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
        expect((await once('ben')).status).toBe(403); // has a bucket of his own
        await server.close();
    });
});

describe('a guarded shape', () => {
    test('without a token, or with an auth token, is closed', async () => {
        expect((await shape(undefined)).status).toBe(401);
        for (const token of [authToken('amira'), 'x.y.z', shapeToken({ table: 'messages' }, {}, { typ: 'JWT' }),
            shapeToken({ table: 'messages' }, { aud: 'other' }), shapeToken({ table: 'messages' }, { exp: 7 }),
            shapeToken({ where: 'true' }), shapeToken({ table: 'messages', params: [7] }), shapeToken('messages'),
            makeToken({ alg: 'HS256', typ: 'shape+jwt' },
                { aud: 'coulomb:shape', exp: nowS() + 99, shape: { table: 'secrets' } }, hmac('x'.repeat(32)))]) {
            const reply = await shape(token);
            expect(reply.status).toBe(401);
            expect(reply.headers['www-authenticate']).toContain('error="invalid_token"');
            expect(reply.text).not.toContain('top secret');
        }
    });

    test('/v1/shape needs the secret, and a token is none', async () => {
        const token = await granted();
        for (const headers of [{}, bearer(token), bearer(authToken('amira'))]) {
            for (const path of ['/v1/shape', '/v1/shape/', '//v1/shape', '/v1/%73hape']) {
                const reply = await suite.server.get(`${path}?table=messages&offset=-1`, { headers });
                expect([path, reply.status]).toEqual([path, 401]);
            }
        }
        const open = await suite.server.get(`/v1/shape?table=messages&offset=-1&secret=${API_SECRET}`);
        expect(open.status).toBe(200);
    });

    // Table, rows and columns smuggled in, every way there is.
    test('is the same whatever the query says', async () => {
        const token = await granted();
        const smuggled = [
            'table=secrets', 'table=secrets&table=members', 'table[]=secrets', 'table[0]=secrets', 'ta%62le=secrets',
            'TABLE=secrets', 'table=%22secrets%22', 'where=true', 'where=1%3D1', "where=conversation_id='c2'",
            'where[]=true', 'wh%65re=true', 'where=true)%20OR%20(true', 'where=conversation_id%20IS%20NOT%20NULL--',
            'params[1]=c2', 'params=%7B%221%22%3A%22c2%22%7D', 'params[1]=c2&params[2]=x', 'params%5B1%5D=c2',
            'columns=id,hidden', 'columns[]=hidden', 'col%75mns=hidden', 'queryable_columns=hidden,id',
            'columns=*', 'secret=x', `secret=${API_SECRET}`, 'api_secret=x', 'shape[table]=secrets',
        ];
        for (const extra of smuggled) {
            for (const query of [`${extra}&offset=-1`, `offset=-1&${extra}`]) {
                const reply = await shape(token, query);
                expect([query, contents(reply)]).toEqual([query, ['hello', 'world']]);
                expect(Object.keys(reply.json()[0].value).sort()).toEqual(['content', 'conversation_id', 'id']);
            }
        }
    });

    test('is the same whatever headers say', async () => {
        const token = await granted();
        for (const header of ['x-original-url', 'x-rewrite-url', 'x-forwarded-uri', 'x-http-method-override',
            'x-table', 'electric-table', 'x-forwarded-prefix']) {
            const reply = await shape(token, 'offset=-1',
                { headers: { ...bearer(token), [header]: '/v1/shape?table=secrets' } });
            expect([header, contents(reply)]).toEqual([header, ['hello', 'world']]);
        }
    });

    test('is the same whatever a body says', async () => {
        const token = await granted();
        const post = (body: unknown) => shape(token, 'offset=-1', { method: 'POST', body, headers: bearer(token) });
        for (const body of [{ table: 'secrets' }, { columns: ['hidden'] }, { queryable_columns: 'hidden' },
            { table: 'secrets', where: 'true' }, { subset: { where: 'true' }, table: 'secrets', where: 'true' },
            { subset: {}, where: "conversation_id = 'c2'", params: { 1: 'c2' } }, { where: 'true' },
            { subset: { where: "conversation_id = 'c2' OR true" } }, { where: "conversation_id = 'c2' OR true" },
            { params: { 1: 'c2' }, where: 'conversation_id <> $1' },
            '{"table":"messages","table":"secrets"}']) {
            const reply = await post(body);
            expect([body, contents(reply)]).toEqual([body, ['hello', 'world']]);
        }
        expect(contents(await post({ where: "conversation_id = 'c2'" }))).toEqual([]);
    });

    test('clauses can not break out of the grant', async () => {
        const token = await granted();
        for (const where of ['true) OR (true', 'true OR true', "content = 'other'", 'true --', 'true /* ',
            ') OR (1=1', '((true)', "'", '"', 'true; select 1', 'id in (select id from secrets)', '$1',
            "content like '%' OR conversation_id = 'c2'", 'true) --', 'true\u0000) OR (true']) {
            const reply = await shape(token, 'offset=-1', {
                method: 'POST', body: { subset: { where } }, headers: bearer(token),
            });
            if (reply.status !== 200) expect([where, reply.status]).toEqual([where, 400]);
            else expect([where, contents(reply).includes('other')]).toEqual([where, false]);
            expect(reply.text).not.toContain('top secret');
        }
    });

    test('columns that were not granted can not be asked about', async () => {
        const token = await granted();
        for (const subset of [{ where: "hidden like 'n%'" }, { where: 'hidden is not null' },
            { where: '"hidden" = \'x\'' }, { order_by: 'hidden', limit: 1 }, { order_by: 'id, hidden', limit: 1 },
            { where: 'messages.hidden is null' }, { where: 'coalesce(hidden, content) = content' },
            { where: 'xmin is not null' }, { where: 'ctid is not null' }]) {
            const body = { subset };
            const reply = await shape(token, 'offset=-1', { method: 'POST', body, headers: bearer(token) });
            expect([subset, reply.status]).toEqual([subset, 400]);
            const query = Object.entries(subset)
                .map(([k, v]) => `subset__${k}=${encodeURIComponent(String(v))}`).join('&');
            expect([query, (await shape(token, `offset=-1&${query}`)).status]).toEqual([query, 400]);
        }
        const fine = await shape(token, `offset=-1&subset__where=${encodeURIComponent("content = 'hello'")}`);
        expect(contents(fine)).toEqual(['hello']);
    });

    test('another grant is not reached by its handle', async () => {
        const mine = await granted();
        const theirs = await shape(await granted('ben', 'c2'));
        const handle = theirs.headers['electric-handle'];
        const offset = theirs.headers['electric-offset'];
        const reply = await shape(mine, `handle=${handle}&offset=${offset}`);
        expect(reply.status).toBe(409);
        expect(reply.text).not.toContain('other');
        expect(reply.headers['cache-control']).toBe('no-cache');
    });

    test('can not be deleted or written to, and path variants change nothing', async () => {
        const token = await granted();
        for (const method of ['DELETE', 'PUT', 'PATCH']) {
            expect((await shape(token, 'offset=-1', { method, headers: bearer(token) })).status).toBe(405);
        }
        const paths = ['/shape/', '//shape', '/sh%61pe', '/%2fshape', '/./shape', '/x/../shape', '/shape%00',
            '/shape;x', '/SHAPE', '/shape/messages', '/proxy/v1/shape/', '/proxy//v1/shape', '/shape%2f', '\\shape'];
        for (const path of paths) {
            const none = await suite.server.get(`${path}?offset=-1&table=secrets`).catch(() => undefined);
            if (none) expect([path, [400, 401, 404].includes(none.status)]).toEqual([path, true]);
            const with_ = await suite.server.get(`${path}?offset=-1&table=secrets`, { headers: bearer(token) })
                .catch(() => undefined);
            if (with_?.status === 200) expect([path, contents(with_)]).toEqual([path, ['hello', 'world']]);
            expect(with_?.text ?? '').not.toContain('top secret');
        }
    });

    test('has the preflight that browsers need', async () => {
        const reply = await suite.server.get('/shape', {
            method: 'OPTIONS',
            headers: { origin: 'https://app', 'access-control-request-headers': 'authorization, x-evil' },
        });
        expect([reply.status, reply.headers['access-control-allow-headers']]).toEqual([204, 'authorization']);
    });
});

describe('a token and time', () => {
    const grant = { table: 'messages', where: 'conversation_id = $1', params: ['c1'] };

    test('no response may be kept longer than its token lives, nor shown to others', async () => {
        const token = shapeToken(grant, { exp: nowS() + 40 });
        const first = await shape(token);
        const at = `handle=${first.headers['electric-handle']}&offset=${first.headers['electric-offset']}`;
        for (const reply of [first, await shape(token, at), await shape(token, 'offset=now')]) {
            const [, fresh, stale] = /^public, max-age=(\d+), stale-while-revalidate=(\d+)$/
                .exec(reply.headers['cache-control'])!;
            expect(Number(fresh) + Number(stale)).toBeLessThanOrEqual(40);
            expect(Number(fresh) + Number(stale)).toBeGreaterThan(20);
            expect(reply.headers.vary).toBe('accept-encoding, authorization');
        }
    });

    test('a long poll whose token ends is answered 401, and shows nothing that came later', async () => {
        const token = shapeToken(grant, { exp: nowS() + 2 });
        const first = await shape(token);
        const handle = first.headers['electric-handle'];
        const up = await shape(token, `handle=${handle}&offset=${first.headers['electric-offset']}`);
        const reply = await shape(token, `handle=${handle}&offset=${up.headers['electric-offset']}&live=true`);
        expect(reply.status).toBe(401);
        expect(reply.json().code).toBe('expired');
    });

    test('an event stream ends with its token', async () => {
        const token = shapeToken(grant, { exp: nowS() + 3 });
        const first = await shape(token);
        const handle = first.headers['electric-handle'];
        const stream = await openSse(suite.server.port,
            `/shape?handle=${handle}&offset=${first.headers['electric-offset']}&live=true&live_sse=true`, token);
        await suite.db.sql("insert into messages values (10, 'c1', 'in time')");
        await stream.until('in time');
        await sleep(3500);
        await suite.db.sql("insert into messages values (11, 'c1', 'too late')");
        await stream.closed;
        expect(stream.text).not.toContain('too late');
        await suite.db.sql('delete from messages where id in (10, 11)');
    });
});

describe('POST /gatekeeper and its proxy', () => {
    test('answer with all that a client needs, and serve only that', async () => {
        const reply = await ask(authToken('amira'), { params: { conversationId: 'c1' } }, '/gatekeeper/messages');
        const { url, table, where, params, columns, headers } = reply.json();
        expect([url, table]).toEqual([`${suite.server.url}/proxy/v1/shape`, 'messages']);
        const query = new URLSearchParams({ table, where, 'params[1]': params[0], columns: columns.join(','), offset: '-1' });
        const get = (q: string) => suite.server.get(`/proxy/v1/shape?${q}`,
            { headers: { authorization: headers.Authorization } });
        expect(contents(await get(query.toString()))).toEqual(['hello', 'world']);
        expect((await suite.server.get(`/proxy/v1/shape?${query}`)).status).toBe(401);
        const without = (name: string): string => {
            const q = new URLSearchParams(query);
            q.delete(name);
            return q.toString();
        };
        expect((await get(without('table'))).status).toBe(400);
        for (const name of ['where', 'params[1]', 'columns']) expect((await get(without(name))).status).toBe(403);
        for (const other of ['table=secrets', 'where=true', 'params[1]=c2', 'columns=id', 'columns=id,content,hidden',
            'params[2]=x', 'table[]=messages', 'where[]=x']) {
            const [name] = other.split('=');
            expect([other, (await get(`${without(name)}&${other}`)).status]).toEqual(
                [other, name === 'table[]' ? 400 : 403]);
        }
    });

    test('refuse as the exchange does', async () => {
        expect((await ask(undefined, {}, '/gatekeeper/messages')).status).toBe(401);
        expect((await ask(authToken('amira'), {}, '/gatekeeper/secrets')).status).toBe(403);
        expect((await ask(authToken('amira'), {}, '/gatekeeper/')).status).toBe(404);
        expect((await ask(authToken('amira'), {}, '/gatekeeper/a/b')).status).toBe(404);
    });
});

describe('a policy file', () => {
    test('grants by claims and parameters, and knows where row-level security decides', async () => {
        await suite.db.sql(`
            create table notes(id int primary key, owner text, v text);
            insert into notes values (1, 'amira', 'mine'), (2, 'ben', 'his'), (3, 'x'' OR true --', 'odd');
            create table secured(id int primary key, owner text);
            alter table secured enable row level security;`);
        const file = join(dir, 'policy.json');
        writeFileSync(file, JSON.stringify({ tables: {
            notes: { where: 'owner = $1', params: ['claims.sub'] },
            messages: { where: 'conversation_id = $1', params: ['params.conversationId'], columns: ['id', 'content'] },
            org: { where: 'id = $1', params: ['claims.org.id'] },
            secured: { where: 'owner = $1', params: ['claims.sub'] },
        } }));
        const server = await suite.another({
            COULOMB_GATE_FUNCTION: '', COULOMB_GATE_POLICY_FILE: file,
            ELECTRIC_REPLICATION_STREAM_ID: `${suite.db.streamId}_policy`,
            CLEANUP_REPLICATION_SLOTS_ON_SHUTDOWN: 'true',
        });
        await server.active();
        const get = async (sub: string, body: unknown) => server.get('/shapes/auth-token', {
            method: 'POST', body, headers: bearer(authToken(sub)),
        });
        const read = async (sub: string, body: unknown): Promise<string[]> => {
            const { token } = (await get(sub, body)).json();
            const reply = await server.get('/shape?offset=-1', { headers: bearer(token) });
            return reply.json().filter((m: any) => m.value).map((m: any) => m.value.v ?? m.value.content).sort();
        };
        expect(await read('amira', { table: 'notes' })).toEqual(['mine']);
        // What the caller is called is a value, not SQL.
        expect(await read("x' OR true --", { table: 'notes' })).toEqual(['odd']);
        expect(await read('amira', { table: 'messages', params: { conversationId: 'c2' } })).toEqual(['other']);
        expect(await read('amira', { table: 'messages', params: { conversationId: "c2' OR '1'='1" } })).toEqual([]);
        expect(await read('amira', { table: 'messages' })).toEqual([]);
        expect(await read('amira', { table: 'messages', params: { conversationId: ['c2'] } })).toEqual([]);
        for (const table of ['secrets', 'secured', 'org']) {
            expect([table, (await get('amira', { table })).status]).toEqual([table, 403]);
        }
        expect(server.log).toMatch(/event=gate\.table_refused table=secured/);
        await server.close();
    });
});

test('settings that would leave a door open stop the server', async () => {
    const fails = async (env: Record<string, string>): Promise<string> => {
        const server = await suite.another({}).then((s) => s);
        await server.stop();
        const before = server.log.length;
        const code = await server.launchExpectingExit(env);
        expect([env, code]).toEqual([env, 2]);
        return server.log.slice(before);
    };
    expect(await fails({ ELECTRIC_SECRET: '', ELECTRIC_INSECURE: 'true' })).toContain('COULOMB_AUTH_SECRET');
    expect(await fails({ COULOMB_AUTH_SECRET: 'short' })).toContain('at least 32');
    expect(await fails({ COULOMB_SHAPE_SECRET: '' })).toContain('COULOMB_SHAPE_SECRET');
    expect(await fails({ COULOMB_SHAPE_SECRET: GATE_ENV.COULOMB_AUTH_SECRET })).toContain('forge');
    expect(await fails({ COULOMB_AUTH_ALGORITHMS: 'none' })).toContain('HS256');
    expect(await fails({ COULOMB_AUTH_ALGORITHMS: 'RS256' })).toContain('none of them');
    expect(await fails({ COULOMB_AUTH_JWKS_URL: 'https://id' })).toContain('contradict');
});

test('a body that arrives drop by drop is given up', async () => {
    const server = await suite.another({ ELECTRIC_TCP_READ_TIMEOUT: '1s' });
    const socket = connectTcp(server.port, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write('POST /shapes/auth-token HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n' +
        `authorization: Bearer ${authToken('amira')}\r\n\r\n{`);
    const timer = setInterval(() => socket.write(' '), 200);
    await new Promise((done) => socket.on('close', done));
    clearInterval(timer);
    expect((await server.get('/v1/health')).status).toBeLessThan(300);
    await server.close();
});

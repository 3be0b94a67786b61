// What one caller's writes may take, and leave behind: of the session, of memory, of the queue.
import { describe, expect, test } from 'vitest';
import type { Coulomb } from '../support/coulomb.js';
import type { Reply } from '../support/http.js';
import { until } from '../support/process.js';
import { authToken, bearer, GATE_ENV } from '../support/tokens.js';
import { useSuite } from '../support/suite.js';
import { WRITE_ENV, WRITE_WORLD } from './world.js';

const suite = useSuite('limits', {
    setup: `${WRITE_WORLD}
        create table big(id int generated always as identity, mb int);
        grant all on big to coulomb_user;
        create function app.big(mb int) returns text language sql as
            $$ insert into big(mb) values (mb); select repeat('x', mb * 1048576) $$;
        create function app.leave(what text) returns void language plpgsql as $$
        begin
            if what = 'setting' then perform set_config('app.me', 'amira', false);
            elsif what = 'role' then perform set_config('role', 'coulomb_anonymous', false);
            elsif what = 'timeout' then perform set_config('statement_timeout', '1', false);
            elsif what = 'unsafe' then perform set_config('synchronous_commit', 'off', false);
            elsif what = 'table' then create temp table counters(id int, n int);
            elsif what = 'lock' then perform pg_advisory_lock(7);
            end if;
        end $$;
        create function app.found() returns jsonb language sql volatile as $$ select jsonb_build_object(
            'me', coalesce(current_setting('app.me', true), ''), 'role', current_user,
            'session', session_user, 'timeout', current_setting('statement_timeout'),
            'safe', current_setting('synchronous_commit'),
            'table', to_regclass('pg_temp.counters') is not null,
            'locks', (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())) $$;
        create function app.slowly() returns trigger language plpgsql as
            $$ begin perform pg_sleep(0.002); return new; end $$;
        create trigger slowly before insert on kinds for each row execute function app.slowly();`,
    env: { ...GATE_ENV, ...WRITE_ENV, COULOMB_WRITE_POOL_SIZE: '1', COULOMB_WRITE_TIMEOUT: '7s' },
});

const post = (path: string, body: unknown, headers = {}, server: Coulomb = suite.server): Promise<Reply> =>
    server.get(path, { method: 'POST', body, headers: { ...bearer(authToken('amira')), ...headers } });

describe('what a function leaves in the session', () => {
    for (const what of ['setting', 'role', 'timeout', 'unsafe', 'table', 'lock']) {
        test(`does not reach the next caller: ${what}`, async () => {
            const clean = (await post('/v1/rpc/found', {})).json().result;
            expect(clean).toMatchObject({ me: '', role: 'coulomb_user', timeout: '7s', safe: 'on', table: false, locks: 0 });
            // One connection: alone, and several in one exchange, some of which are undone.
            await post('/v1/rpc/leave', { what });
            expect((await post('/v1/rpc/found', {})).json().result).toEqual(clean);
            const all = await Promise.all(Array.from({ length: 24 }, (_, i) => i % 3 === 0
                ? post('/v1/rpc/leave', { what })
                : i % 3 === 1 ? post('/v1/rpc/found', {}, { 'idempotency-key': `${what}${i}` })
                    : post('/v1/rpc/fails', { state: 'P0001' })));
            all.forEach((reply, i) => {
                expect([i, reply.status]).toEqual([i, i % 3 === 2 ? 422 : 200]);
                if (i % 3 === 1) expect(reply.json().result).toEqual(clean);
            });
        });
    }
});

describe('an answer', () => {
    test('of 15 MiB arrives; of a longer one nothing is written', async () => {
        for (const headers of [{}, { 'idempotency-key': 'big' }]) {
            const whole = await post('/v1/rpc/big', { mb: 15 }, headers);
            expect([whole.status, whole.json().result.length]).toEqual([200, 15 * 1048576]);
        }
        const again = await post('/v1/rpc/big', { mb: 15 }, { 'idempotency-key': 'big' });
        expect([again.json().replayed, again.json().result.length]).toEqual([true, 15 * 1048576]);
        for (const headers of [{}, { 'idempotency-key': 'bigger' }]) {
            for (const mb of [16, 40]) {
                const reply = await post('/v1/rpc/big', { mb }, headers);
                expect([reply.status, reply.json()]).toEqual([422, expect.objectContaining({
                    success: false, code: 'answer_too_large', message: expect.stringContaining('16 MiB') })]);
            }
        }
        expect(await suite.db.sql('select mb from big order by id')).toEqual([{ mb: '15' }, { mb: '15' }]);
    });
});

describe('the queue', () => {
    const insert = (id: number, title = 'x') => ({ op: 'insert', table: 'kinds', values: { id, 'We"ird, col': title } });

    test('that is full stops a batch between its transactions, and tells which were applied', async () => {
        const server = await suite.another({
            COULOMB_WRITE_MAX_QUEUED: '1', ELECTRIC_REPLICATION_STREAM_ID: `${suite.db.streamId}_queue`,
            CLEANUP_REPLICATION_SLOTS_ON_SHUTDOWN: 'true',
        });
        await server.active();
        let next = 0;
        let stopped = 0;
        let whole = 0;
        const client = async (): Promise<void> => {
            const ids = Array.from({ length: 4 }, () => ++next);
            const reply = await post('/v1/transactions', ids.map((id) => ({ id: `t${id}`, mutations: [insert(id)] })),
                {}, server);
            const { success, transactions } = reply.json();
            const done = transactions.filter((t: any) => t.success).length;
            expect(reply.status).toBe(success ? 200 : 503);
            expect(transactions.length).toBe(success ? 4 : done + 1);
            if (!success) {
                expect(transactions[done]).toMatchObject({ success: false, code: 'busy', id: `t${ids[done]}` });
                expect(reply.headers['retry-after']).toBe('1');
            }
            expect((await suite.db.sql('select id from kinds where id = any($1) order by id', [ids])).map((r) => Number(r.id)))
                .toEqual(ids.slice(0, done));
            if (done === 4) whole++;
            else if (done > 0) stopped++;
        };
        await until('batches that were stopped, and whole ones', async () => {
            await Promise.all(Array.from({ length: 12 }, client));
            return stopped > 0 && whole > 0;
        });
        await server.close();
    });

    test('holds so many bytes, and one request however large', async () => {
        const server = await suite.another({
            COULOMB_WRITE_MAX_QUEUED_BYTES: '1MiB', ELECTRIC_REPLICATION_STREAM_ID: `${suite.db.streamId}_bytes`,
            CLEANUP_REPLICATION_SLOTS_ON_SHUTDOWN: 'true',
        });
        await server.active();
        const large = 'x'.repeat(900_000);
        expect((await post('/v1/transactions', { mutations: [insert(100_000, large)] }, {}, server)).status).toBe(200);
        const slow = post('/v1/rpc/slow', { s: 1 }, {}, server);
        await until('the call', async () => (await suite.db.sql(
            "select 1 from pg_stat_activity where query like '%slow%' and wait_event = 'PgSleep'")).length === 1);
        const replies = await Promise.all(Array.from({ length: 8 }, (_, i) =>
            post('/v1/transactions', { mutations: [insert(100_001 + i, large)] }, {}, server)));
        expect(replies.map((r) => r.status).sort()).toEqual([200, ...Array(7).fill(503)]);
        expect(replies.find((r) => r.status === 503)!.json().code).toBe('busy');
        expect((await slow).status).toBe(200);
        await until('room', async () => (await post('/v1/transactions',
            { mutations: [insert(100_100, large)] }, {}, server)).status === 200);
        await server.close();
    });
});

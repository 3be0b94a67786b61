// Under whom a write runs: always a role that writes are allowed to, from its first statement to its
// commit.
import { describe, expect, test } from 'vitest';
import type { Coulomb } from '../support/coulomb.js';
import type { Reply } from '../support/http.js';
import { authToken, bearer, GATE_ENV } from '../support/tokens.js';
import { useSuite } from '../support/suite.js';
import { WRITE_ENV, WRITE_WORLD } from './world.js';

const suite = useSuite('identity', {
    setup: `${WRITE_WORLD}
        create table marks(id int generated always as identity, by text);
        grant all on marks to coulomb_user;
        create function app.note() returns trigger language plpgsql as
            $$ begin update marks set by = current_user where id = new.id; return null; end $$;
        create constraint trigger noted after insert on marks deferrable initially deferred
            for each row execute function app.note();
        create function app.mark() returns int language sql as
            'insert into marks default values returning id';`,
    env: { ...GATE_ENV, ...WRITE_ENV },
});

const post = (server: Coulomb, path: string, body: unknown, headers = {}): Promise<Reply> =>
    server.get(path, { method: 'POST', body, headers: { ...bearer(authToken('amira')), ...headers } });

describe('a write', () => {
    for (const headers of [{}, { 'idempotency-key': 'once' }]) {
        const how = 'idempotency-key' in headers ? 'with an id' : 'without an id';
        test(`runs deferred triggers under the caller's role, ${how}`, async () => {
            const reply = await post(suite.server, '/v1/rpc/mark', {}, headers);
            expect([reply.status, reply.text.slice(0, 200)]).toEqual([200, expect.anything()]);
            const [{ by }] = await suite.db.sql('select by from marks order by id desc limit 1');
            expect(by).toBe('coulomb_user');
        });
    }

    test("with a token needs a role for tokens: the server's own is never taken", async () => {
        const { COULOMB_WRITE_ROLES: _, ...anonymous } = WRITE_ENV;
        const server = await suite.another({
            ...GATE_ENV, ...anonymous, COULOMB_WRITE_ROLES: undefined,
            ELECTRIC_REPLICATION_STREAM_ID: `${suite.db.streamId}_a`,
        });
        await server.active();
        const insert = { op: 'insert', table: 'private', values: { id: 1 } };
        const replies = [
            await post(server, '/v1/transactions', { mutations: [insert] }),
            await post(server, '/v1/transactions', { id: 'x', mutations: [insert] }),
            await post(server, '/v1/rpc/who', {}),
            await post(server, '/v1/rpc/who', {}, { 'idempotency-key': 'y' }),
        ];
        expect(replies.map((r) => [r.status, r.json().code])).toEqual(Array(4).fill([403, 'forbidden']));
        expect(await suite.db.sql('select * from private')).toEqual([]);
    });
});

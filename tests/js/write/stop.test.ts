// A server that has written, refused and failed to decide stops as it should: what it still holds then,
// the sanitizers' builds tell by their exit code.
import { expect, test } from 'vitest';
import { authToken, bearer, GATE_ENV } from '../support/tokens.js';
import { useSuite } from '../support/suite.js';
import { WRITE_ENV, WRITE_WORLD } from './world.js';

const suite = useSuite('write_stop', {
    setup: WRITE_WORLD, env: { ...GATE_ENV, ...WRITE_ENV, COULOMB_GATE_FUNCTION: 'app.nope' },
});

test('stops clean, also with writes under way', async () => {
    const post = (path: string, body: unknown, headers = {}) => suite.server.get(path, {
        method: 'POST', body, headers: { ...bearer(authToken('amira')), ...headers },
    });
    const insert = (table: string) => ({ mutations: [{ op: 'insert', table, values: { v: 'x' } }] });
    const statuses: number[] = [];
    for (const reply of [
        post('/v1/transactions', { id: 'a', ...insert('keyless') }),
        post('/v1/transactions', [insert('keyless'), insert('keyless')]),
        post('/v1/transactions', insert('nope')), post('/v1/transactions', 'x'),
        post('/v1/rpc/add', { a: 1 }), post('/v1/rpc/add', { a: 1 }, { 'idempotency-key': 'x' }),
        post('/shapes/auth-token', { table: 'a' }),
        post('/shapes/auth-token', { table: 'a' }, bearer(authToken('amira', { exp: 1 }))),
    ]) statuses.push((await reply).status);
    expect(statuses).toEqual([200, 200, 403, 400, 200, 200, 500, 401]);
    const under_way = [post('/v1/rpc/slow', { s: 30 }), post('/v1/transactions', insert('keyless'))]
        .map((reply) => reply.then(() => undefined, () => undefined));
    expect(await suite.server.stop()).toBe(0);
    await Promise.all(under_way);
});

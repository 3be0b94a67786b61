// Admission limits beyond the recordings: permits come back whatever ends a request.
import { describe, expect, test } from 'vitest';
import { sleep, until } from '../support/process.js';
import { readToEnd } from '../support/shapes.js';
import { useSuite } from '../support/suite.js';

const suite = useSuite('admission', {
    env: {
        ELECTRIC_MAX_CONCURRENT_REQUESTS: '{"initial":1,"existing":1}',
        ELECTRIC_LONG_POLL_TIMEOUT: '20000',
    },
    setup: `
        create table items(id int primary key, v text); insert into items values (1, 'a');
        create table locked(id int primary key); create table never(id int primary key);
    `,
});

describe('an existing permit', () => {
    for (const sse of [false, true]) {
        test(`is freed at once when the waiting client leaves (${sse ? 'event stream' : 'long poll'})`, async () => {
            const { handle, offset } = await readToEnd(suite.server, { table: 'items' });
            const live = suite.server.open({
                table: 'items', offset, handle, live: true, live_sse: sse || undefined,
            });
            live.opened.catch(() => undefined);
            await sleep(200);
            const refused = await suite.server.shape({ table: 'items', offset, handle });
            expect(refused.status).toBe(503);
            expect(refused.json().code).toBe('concurrent_request_limit_exceeded');
            expect(Number(refused.headers['retry-after'])).toBeGreaterThanOrEqual(6);
            expect(Number(refused.headers['retry-after'])).toBeLessThanOrEqual(10);
            expect(refused.headers['electric-internal-known-error']).toBe('true');
            live.leave();
            await until('the permit', async () =>
                (await suite.server.shape({ table: 'items', offset, handle })).status === 200, 5_000);
        });
    }

    test('is freed after answers, errors and redirects alike', async () => {
        const { handle, offset } = await readToEnd(suite.server, { table: 'items' });
        for (let n = 0; n < 10; n++) {
            expect((await suite.server.shape({ table: 'items', offset, handle })).status).toBe(200);
            expect((await suite.server.shape({ table: 'nope', offset, handle })).status).toBe(400);
            expect((await suite.server.shape({ table: 'items', columns: 'id', offset, handle })).status).toBe(409);
            const body = await suite.server.get('/v1/shape?table=items&offset=-1', { method: 'POST', body: '{' });
            expect(body.status).toBe(400);
        }
    });
});

describe('an initial permit', () => {
    test('is held while the snapshot starts, counted apart, and a refusal creates nothing', async () => {
        const { handle, offset } = await readToEnd(suite.server, { table: 'items' });
        const session = await suite.db.session();
        await session.query('begin; lock table locked in access exclusive mode');
        const blocked = suite.server.shape({ table: 'locked', offset: -1 });
        await sleep(300);
        const refused = await suite.server.shape({ table: 'never', offset: -1 });
        expect(refused.status).toBe(503);
        const dead = await suite.server.shape({ table: 'never', offset: '0_0', handle: '1-1' });
        expect(dead.status).toBe(503);
        expect(dead.json().message).toContain('initial');
        expect((await suite.server.shape({ table: 'items', offset, handle })).status).toBe(200);
        await session.query('rollback');
        expect((await blocked).status).toBe(200);
        const removed = await suite.server.get('/v1/shape?table=never', { method: 'DELETE' });
        expect(removed.status).toBe(404);
    });

    test('is freed when the waiting client leaves', async () => {
        const session = await suite.db.session();
        await session.query('begin; lock table never in access exclusive mode');
        const waiting = suite.server.open({ table: 'never', offset: -1 });
        waiting.opened.catch(() => undefined);
        await sleep(300);
        waiting.leave();
        await until('the permit', async () =>
            (await suite.server.shape({ table: 'items', replica: 'full', offset: -1 })).status === 200, 5_000);
        await session.query('rollback');
    });
});

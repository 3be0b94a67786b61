// The first moments of a server: it listens before it has reached Postgres.
import { createServer, connect, type AddressInfo, type Server, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { sleep } from '../support/process.js';
import { readToEnd } from '../support/shapes.js';
import { useSuite } from '../support/suite.js';

const suite = useSuite('start', {
    server: false,
    setup: `
        create table items(id int primary key, v text); insert into items values (1, 'a');
        create table second(id int primary key); insert into second values (1);
    `,
});

const open: { server: Server; sockets: Set<Socket> }[] = [];
afterEach(() => {
    for (const { server, sockets } of open.splice(0)) {
        server.close();
        for (const socket of sockets) socket.destroy();
    }
});

/** A way to the cluster whose connections stay silent until `gate` lets them through. */
async function slowWay(gate: () => Promise<void>): Promise<string> {
    const sockets = new Set<Socket>();
    const server = createServer((near) => {
        sockets.add(near);
        near.on('error', () => undefined);
        near.pause();
        void gate().then(() => {
            const far = connect(suite.db.cluster.port, suite.db.cluster.host);
            sockets.add(far);
            far.on('error', () => near.destroy());
            near.on('close', () => far.destroy());
            near.pipe(far);
            far.pipe(near);
        });
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    open.push({ server, sockets });
    const { port } = server.address() as AddressInfo;
    return suite.db.url.replace(/@[^/]+\//, `@127.0.0.1:${port}/`);
}

test('requests right after a restart wait for the first connection', async () => {
    let gate = Promise.resolve();
    const server = await suite.another({ DATABASE_URL: await slowWay(() => gate) });
    await server.active();
    const known = await readToEnd(server, { table: 'items' });
    let letThrough = (): void => undefined;
    gate = new Promise((done) => (letThrough = done));
    await server.stop();
    await server.launch();
    const asked = [
        server.shape({ table: 'items', offset: -1 }),
        server.shape({ table: 'items', offset: known.offset, handle: known.handle }),
        server.shape({ table: 'items', columns: 'id', offset: -1 }),
        server.shape({ table: 'second', offset: -1 }),
    ];
    let early = 0;
    for (const reply of asked) void reply.then((r) => (early += r.status === 200 ? 0 : 1));
    await sleep(800);
    expect(early).toBe(0);
    letThrough();
    const replies = await Promise.all(asked);
    expect(replies.map((r) => r.status)).toEqual([200, 200, 200, 200]);
    expect(replies[0].headers['electric-handle']).toBe(known.handle);
    await server.stop();
});

test('when Postgres can not be reached a request that needs it is refused and told so', async () => {
    const url = suite.db.url.replace(/@[^/]+\//, '@127.0.0.1:1/');
    const server = await suite.another({ DATABASE_URL: url });
    const reply = await server.shape({ table: 'second', offset: -1 }, { timeoutMs: 15_000 });
    expect(reply.status).toBe(503);
    expect(reply.headers['retry-after']).toBeDefined();
    expect(reply.json().message).toContain('Cannot connect to the database');
    await server.stop();
});

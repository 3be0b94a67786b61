// A write storm: 64 clients that send, and send again what they heard nothing of, while the server is
// killed with kill -9 again and again. Each id is applied exactly once, and each txid that was
// answered is in the shape's log. STORM_WRITES: of each client; STORM_KILLS (make soak: more).
import { expect, test } from 'vitest';
import { API_SECRET, authToken, bearer, GATE_ENV } from '../support/tokens.js';
import { sleep } from '../support/process.js';
import { readToEnd } from '../support/shapes.js';
import { useSuite } from '../support/suite.js';
import { WRITE_ENV, WRITE_WORLD } from '../write/world.js';

const CLIENTS = 64;
const WRITES = Number(process.env.STORM_WRITES ?? 15);
const KILLS = Number(process.env.STORM_KILLS ?? 4);

const suite = useSuite('storm', {
    setup: `${WRITE_WORLD}
        create table storm(n bigint generated always as identity primary key, id text not null, client text not null);
        grant all on storm to coulomb_user;
        create function app.storm(id text) returns jsonb language sql as $$
            insert into storm(id, client) values (id, 'call') returning jsonb_build_object('n', n) $$;`,
    env: { ...GATE_ENV, ...WRITE_ENV, ELECTRIC_MAX_CONCURRENT_REQUESTS: '{"initial":300,"existing":10000}' },
});

interface Answer { id: string; txid: number; replayed: boolean }

/** One write until it is answered for good. */
async function write(client: number, n: number, resent: () => void): Promise<Answer> {
    const id = `${client}-${n}`;
    const headers = bearer(authToken(`client ${client}`));
    const call = n % 5 === 4; // some by a function
    for (;;) {
        try {
            const reply = call
                ? await suite.server.get('/v1/rpc/storm', {
                    method: 'POST', body: { id }, headers: { ...headers, 'idempotency-key': id }, timeoutMs: 10_000 })
                : await suite.server.get('/v1/transactions', {
                    method: 'POST', headers, timeoutMs: 10_000,
                    body: { id, mutations: [
                        { op: 'insert', table: 'storm', values: { id, client: String(client) } },
                        { op: 'update', table: 'counters', key: { id: 1 + (client % 10) }, values: { n } }] } });
            if (reply.status === 200) {
                const { txid, replayed } = reply.json();
                return { id, txid, replayed: replayed === true };
            }
            if (reply.status !== 503) throw new Error(`${id}: status ${reply.status}: ${reply.text}`);
        } catch (error) {
            if (/status/.test((error as Error).message)) throw error;
        }
        resent();
        await sleep(20 + Math.random() * 60);
    }
}

test(`${CLIENTS} clients, ${KILLS} kills: each id once, each txid in the stream`, async () => {
    const answers: Answer[] = [];
    const total = CLIENTS * WRITES;
    let resent = 0;
    await readToEnd(suite.server, { table: 'storm', secret: API_SECRET }); // it is followed from now on
    const clients = Array.from({ length: CLIENTS }, async (_, client) => {
        for (let n = 0; n < WRITES; n++) answers.push(await write(client, n, () => resent++));
    });
    for (let kill = 1; kill <= KILLS; kill++) {
        const due = (total * kill) / (KILLS + 1);
        while (answers.length < due) await sleep(5);
        await suite.server.kill9();
        await suite.server.launch();
    }
    await Promise.all(clients);
    await suite.server.active();

    expect(answers.length).toBe(total);
    const rows = await suite.db.sql('select id, count(*)::int as n from storm group by id');
    expect(rows.filter((r) => Number(r.n) !== 1)).toEqual([]);
    expect(rows.length).toBe(total);
    expect(resent).toBeGreaterThan(0); // or nothing was tried

    // The log after the snapshot has every transaction; a snapshot that was taken anew would hide some,
    // so those are asked of the rows' own xmin, which is what the log would have had.
    const { messages } = await readToEnd(suite.server, { table: 'storm', secret: API_SECRET });
    const seen = new Map<string, number[]>(messages.filter((m) => m.headers.operation)
        .map((m) => [m.value.id, m.headers.txids ?? []]));
    expect(seen.size).toBe(total);
    const xmin = new Map((await suite.db.sql('select id, xmin::text as x from storm')).map((r) => [r.id, Number(r.x)]));
    const wrong = answers.filter(({ id, txid }) =>
        xmin.get(id) !== txid || (seen.get(id)!.length > 0 && !seen.get(id)!.includes(txid)));
    expect(wrong).toEqual([]);
    expect([...seen.values()].filter((txids) => txids.length > 0).length).toBe(total);
}, 60_000 + total_ms());

function total_ms(): number {
    return CLIENTS * WRITES * 20 + KILLS * 5_000;
}

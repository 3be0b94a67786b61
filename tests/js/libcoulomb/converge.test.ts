// Two clients of libcoulomb, one npm client and another program write and read one table, while
// connections are cut, the server is killed and tokens end; again and again all of them come to what
// SELECT says. What the C clients must never hear or show they look for themselves (tests/support/programs/converge.c).
// CONVERGE_ROUNDS, CONVERGE_SEED.
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, expect, test } from 'vitest';
import { ShapeStream, Shape } from '@electric-sql/client';
import { coulombBin } from '../support/coulomb.js';
import { Hopeless, removeDir, sleep, tempDir, trackPid, until, untrackPid } from '../support/process.js';
import { Proxy } from '../support/proxy.js';
import { useSuite } from '../support/suite.js';
import { API_SECRET, authToken, bearer, GATE_ENV, nowS, ROLES } from '../support/tokens.js';

const ROUNDS = Number(process.env.CONVERGE_ROUNDS ?? 6);
const SEED = Number(process.env.CONVERGE_SEED ?? Date.now() % 1_000_000);
const IDS = 60;

const dir = tempDir('converge');
writeFileSync(join(dir, 'policy.json'), JSON.stringify({ tables: { shared: {} } }));
const suite = useSuite('converge', {
    setup: `${ROLES}
        create table shared(id int primary key, v text not null, n int not null constraint not_negative check (n >= 0));
        grant all on shared to coulomb_user;`,
    env: {
        ...GATE_ENV, COULOMB_GATE_FUNCTION: '', COULOMB_GATE_POLICY_FILE: join(dir, 'policy.json'),
        COULOMB_WRITE_ROLES: 'coulomb_user', COULOMB_SHAPE_TOKEN_LIFETIME: '3s',
    },
});
afterAll(() => removeDir(dir));

let state = SEED;
/** mulberry32 */
function random(): number {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const pick = (n: number): number => Math.floor(random() * n);

interface Row { id: number; v: string; n: number }

class Client {
    out = '';
    private readonly child: ChildProcessWithoutNullStreams;
    private ended = false;

    constructor(url: string, tokens: string, seed: number, sse: boolean) {
        const program = join(dirname(coulombBin()), 'tests', 'converge');
        this.child = spawn(program, [url, 'shared', tokens, String(seed), ...(sse ? ['sse'] : [])]);
        trackPid(this.child.pid!);
        this.child.stdout.on('data', (data) => { this.out += data; });
        this.child.stderr.on('data', (data) => { this.out += data; });
        this.child.on('close', (code, signal) => {
            this.ended = true;
            this.out += `ended ${code ?? signal}\n`;
            untrackPid(this.child.pid!);
        });
    }

    check(): void {
        if (/FAULT|Sanitizer|^failed|^ended (?!0)/m.test(this.out)) throw new Hopeless(this.out.slice(-2000));
    }

    say(command: string): void {
        this.out = this.out.replace(/^(row|end|settled).*\n/gm, '');
        this.child.stdin.write(`${command}\n`);
    }

    async hears(line: RegExp, timeoutMs = 60_000): Promise<void> {
        await until(`a client to say ${line}`, () => {
            this.check();
            return line.test(this.out);
        }, timeoutMs).catch((error) => { throw new Error(`${error.message}\n${this.out.slice(-2000)}`); });
    }

    async rows(): Promise<Row[]> {
        this.say('dump');
        await this.hears(/^end .*\n/m);
        return [...this.out.matchAll(/^row (.*)$/gm)].map((m) => JSON.parse(m[1])).sort((a, b) => a.id - b.id);
    }

    async quit(): Promise<void> {
        if (!this.ended) this.child.stdin.write('quit\n');
        await until('a client to close', () => this.ended);
        this.check();
        expect(this.out).toContain('closed');
    }

    kill(): void {
        this.child.kill('SIGKILL');
    }
}

let clients: Client[] = [];
let proxies: Proxy[] = [];
let ticking: NodeJS.Timeout | undefined;
const abort = new AbortController();
afterEach(async () => {
    clearInterval(ticking);
    abort.abort();
    clients.forEach((c) => c.kill());
    for (const proxy of proxies) await proxy.stop();
});

/** The npm client's writes: over HTTP, again until they are answered. */
async function write(url: string, n: number): Promise<void> {
    const id = pick(IDS);
    const op = pick(3);
    const mutation = op === 0
        ? { op: 'upsert', table: 'shared', values: { id, v: 'npm', n } }
        : op === 1
            ? { op: 'update', table: 'shared', key: { id }, values: { n }, if_missing: 'ignore' }
            : { op: 'delete', table: 'shared', key: { id }, if_missing: 'ignore' };
    for (;;) {
        const reply = await fetch(`${url}/v1/transactions`, {
            method: 'POST', signal: AbortSignal.timeout(5_000),
            headers: { ...bearer(authToken('npm')), 'content-type': 'application/json' },
            body: JSON.stringify({ id: `npm-${n}`, mutations: [mutation] }),
        }).catch(() => undefined);
        const body = await reply?.text().catch(() => undefined);
        if (reply?.status === 200 && body !== undefined) return;
        if (reply && reply.status >= 400 && reply.status !== 503) throw new Error(`${reply.status} ${body}`);
        await sleep(20);
    }
}

test(`all clients come to what SELECT says, ${ROUNDS} rounds, seed ${SEED}`, async () => {
    const tokens = join(dir, 'token');
    const tick = (): void => writeFileSync(tokens, authToken('amira', { exp: nowS() + 3 }));
    tick();
    ticking = setInterval(tick, 500);
    proxies = await Promise.all([0, 1, 2].map(() => new Proxy(() => suite.server.port, random).start()));
    clients = [0, 1].map((i) => new Client(proxies[i].url, tokens, SEED + i, i === 1));
    const stream = new ShapeStream<any>({
        url: `${proxies[2].url}/v1/shape`, params: { table: 'shared', secret: API_SECRET }, signal: abort.signal,
        warnOnHttp: false, backoffOptions: { initialDelay: 20, maxDelay: 250, multiplier: 1.5 },
        onError: () => ({}),
    });
    const shape = new Shape(stream);
    for (const client of clients) await client.hears(/^status ready/m);
    let n = 0;
    for (let round = 1; round <= ROUNDS; round++) {
        for (const proxy of proxies) proxy.weather = { cut: 0.03, delay: 0.1, delayMs: 30, refuse: 0.1 };
        for (const client of clients) client.say('go');
        const end = Date.now() + 1_500;
        const writer = (async (): Promise<void> => {
            while (Date.now() < end) {
                await write(proxies[2].url, ++n);
                await suite.db.sql(`insert into shared values ($1, 'sql', 1) on conflict (id) do update set v = 'sql ' || shared.n`,
                    [pick(IDS)]);
                await sleep(pick(30));
            }
        })();
        if (random() < 0.5) {
            await sleep(pick(1_000));
            await suite.server.kill9();
            await suite.server.launch();
        }
        if (random() < 0.5) proxies[pick(3)].cutAll();
        if (round % 3 === 0) await suite.db.sql('truncate shared'); // all shapes begin anew
        await writer;
        for (const client of clients) client.say('pause');
        for (const proxy of proxies) proxy.weather = {};
        for (const client of clients) await client.hears(/^settled/m);
        const rows = (await suite.db.sql('select id, v, n from shared order by id'))
            .map((r) => ({ id: Number(r.id), v: r.v, n: Number(r.n) }));
        for (const client of clients) {
            await until('a client to have the rows', async () => {
                expect(await client.rows()).toEqual(rows);
                return true;
            }, 30_000, 100);
        }
        await until('the npm client to have the rows', async () => {
            expect([...shape.currentRows].sort((a: any, b: any) => a.id - b.id)).toEqual(rows);
            return true;
        }, 30_000);
    }
    for (const client of clients) await client.rows(); // with its counts
    const counts = clients.map((c) => /written=(\d+) refused=(\d+) failed=(\d+)/.exec(c.out)!.slice(1).map(Number));
    for (const [written, refused, failed] of counts) {
        expect(written).toBeGreaterThan(ROUNDS);
        expect(refused).toBeGreaterThan(0);
        expect(failed).toBe(0);
    }
    expect(proxies.reduce((sum, p) => sum + p.cuts, 0)).toBeGreaterThan(ROUNDS);
    for (const client of clients) await client.quit();
    clients = [];
}, 60_000 + ROUNDS * 30_000);

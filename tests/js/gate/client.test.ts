// The guide's client code (seed 001) on the unmodified npm client: tokens by POST /shapes/auth-token,
// cached, thrown away on a 401. Their end comes again and again while rows go on arriving.
import { FetchError, ShapeStream } from '@electric-sql/client';
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { exchange } from '../support/http.js';
import { removeDir, sleep, tempDir, until } from '../support/process.js';
import { useSuite } from '../support/suite.js';
import { authToken, bearer, GATE_ENV, nowS, shapeToken } from '../support/tokens.js';
import { contents, WORLD, WORLD_ENV } from './world.js';

const suite = useSuite('gate_client', {
    setup: WORLD,
    env: { ...GATE_ENV, ...WORLD_ENV, COULOMB_SHAPE_TOKEN_LIFETIME: '2s', ELECTRIC_LONG_POLL_TIMEOUT: '1000' },
});

function createShapeConfig(table: string, params: Record<string, string>, refused: () => void) {
    const cache = new Map<string, string>();
    const key = `${table}|${JSON.stringify(params)}`;
    return {
        params: { table, ...params },
        headers: {
            Authorization: async (): Promise<string> => {
                const cached = cache.get(key);
                if (cached) return `Bearer ${cached}`;
                const response = await fetch(`${suite.server.url}/shapes/auth-token`, {
                    method: 'POST',
                    headers: { 'Content-Type': 'application/json', ...bearer(authToken('amira')) },
                    body: JSON.stringify({ table, params }),
                });
                if (!response.ok) throw new Error('Failed to fetch shape token');
                const { token } = await response.json() as { token: string };
                cache.set(key, token);
                return `Bearer ${token}`;
            },
        },
        onError: async (error: Error) => {
            if (error instanceof FetchError && error.status === 401) {
                refused();
                cache.delete(key);
                return {};
            }
            throw error;
        },
    };
}

test('rows go on arriving while tokens come to their end', async () => {
    let refused = 0;
    const config = createShapeConfig('messages', { conversationId: 'c1' }, () => refused++);
    const abort = new AbortController();
    const stream = new ShapeStream({ url: `${suite.server.url}/shape`, signal: abort.signal, ...config });
    const seen: string[] = [];
    stream.subscribe((messages) => {
        for (const m of messages) if ('value' in m) seen.push(String(m.value.content));
    });
    await until('the first rows', () => seen.length === 2);
    let n = 0;
    while (refused < 3) { // whatever time that takes
        await suite.db.sql(`insert into messages values (${100 + n}, 'c1', 'n${n}'), (${500 + n}, 'c2', 'not for amira')`);
        n++;
        await sleep(150);
    }
    await until('all of them', () => seen.length === n + 2, 15_000);
    abort.abort();
    expect(seen.slice(2)).toEqual(Array.from({ length: n }, (_, i) => `n${i}`));
});

test('a cache in front holds one copy for each grant, and none for who has no token', async () => {
    const dir = tempDir('nginx');
    const port = await new Promise<number>((done) => {
        const probe = createServer().listen(0, '127.0.0.1', () => {
            const { port: free } = probe.address() as { port: number };
            probe.close(() => done(free));
        });
    });
    for (const name of ['cache', 'tmp']) mkdirSync(join(dir, name));
    writeFileSync(join(dir, 'nginx.conf'), `daemon off; pid ${dir}/pid; error_log ${dir}/error.log; worker_processes 1;
        ${process.getuid?.() === 0 ? 'user root;' : ''}
        events {} http { access_log off; client_body_temp_path ${dir}/tmp; proxy_temp_path ${dir}/tmp;
        fastcgi_temp_path ${dir}/tmp; uwsgi_temp_path ${dir}/tmp; scgi_temp_path ${dir}/tmp;
        proxy_cache_path ${dir}/cache keys_zone=c:1m;
        server { listen 127.0.0.1:${port}; location / { proxy_pass ${suite.server.url}; proxy_cache c;
        proxy_cache_lock on; add_header x-cache $upstream_cache_status always; } } }`);
    execFileSync('nginx', ['-t', '-q', '-c', join(dir, 'nginx.conf'), '-p', dir], { stdio: 'pipe' });
    const nginx = spawn('nginx', ['-c', join(dir, 'nginx.conf'), '-p', dir], { stdio: 'ignore' });
    const get = (token?: string) => exchange(`http://127.0.0.1:${port}`, '/shape?offset=-1',
        { headers: token ? bearer(token) : {} });
    const grant = (id: string) => shapeToken({ table: 'messages', where: 'conversation_id = $1', params: [id] }, { exp });
    const exp = nowS() + 120;
    try {
        await until('nginx', async () => (await get().catch(() => undefined))?.status === 401);
        const first = await get(grant('c1'));
        const again = await get(grant('c1')); // somebody else with the same grant
        expect([first.headers['x-cache'], again.headers['x-cache']]).toEqual(['MISS', 'HIT']);
        expect(contents(again)).toEqual(contents(first));
        const other = await get(grant('c2'));
        expect(other.headers['x-cache']).toBe('MISS');
        expect(contents(other)).not.toContain('hello');
        for (const token of [undefined, 'x.y.z', authToken('amira')]) {
            const refused = await get(token);
            expect([refused.status, refused.headers['x-cache']]).toEqual([401, 'MISS']);
            expect(refused.text).not.toContain('hello');
        }
        expect((await get(grant('c1'))).headers['x-cache']).toBe('HIT');
    } finally {
        nginx.kill('SIGTERM');
        await new Promise((done) => nginx.on('exit', done));
        removeDir(dir);
    }
});

// libcoulomb's stream over TLS: HTTP/2 where it is offered, compression, and no trust in a certificate
// that nobody vouches for.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { createSecureServer, type Http2SecureServer } from 'node:http2';
import { join } from 'node:path';
import { createGzip } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { sleep, tempDir, removeDir } from '../support/process.js';
import { StreamTail } from '../support/stream-tail.js';
import { useSuite } from '../support/suite.js';

const suite = useSuite('libcoulomb_tls', {
    setup: `
        create table items(id int primary key, v text);
        insert into items select i, 'v' || i from generate_series(1, 1000) i;
    `,
});

let dir: string;
let front: Http2SecureServer;
let url: string;
const protocols = new Set<string>();
let sessions = 0;
let compressed = 0;

// A front with TLS that passes on to the server, compressing what may be.
beforeAll(async () => {
    dir = tempDir('tls');
    execFileSync('openssl', [
        'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost',
        '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', join(dir, 'key'), '-out', join(dir, 'cert'),
    ], { stdio: 'ignore' });
    front = createSecureServer({
        key: readFileSync(join(dir, 'key')), cert: readFileSync(join(dir, 'cert')), allowHTTP1: true,
    });
    front.on('session', () => sessions++);
    front.on('request', (req, res) => {
        protocols.add(req.httpVersion);
        const gzip = String(req.headers['accept-encoding']).includes('gzip');
        const back = request(
            { port: suite.server.port, host: '127.0.0.1', path: req.url, method: req.method,
              headers: { accept: String(req.headers.accept) } },
            (answer) => {
                const headers = Object.fromEntries(
                    Object.entries(answer.headers).filter(
                        ([name]) => !['connection', 'keep-alive', 'transfer-encoding', 'content-length'].includes(name)));
                if (!gzip) {
                    res.writeHead(answer.statusCode!, headers as Record<string, string>);
                    answer.pipe(res as any);
                    return;
                }
                compressed++;
                res.writeHead(answer.statusCode!, { ...headers, 'content-encoding': 'gzip' } as Record<string, string>);
                answer.pipe(createGzip()).pipe(res as any);
            });
        back.on('error', () => res.destroy?.());
        res.on('close', () => back.destroy());
        back.end();
    });
    await new Promise<void>((done) => front.listen(0, '127.0.0.1', done));
    url = `https://127.0.0.1:${(front.address() as { port: number }).port}/v1/shape`;
});
afterAll(async () => {
    front.close();
    removeDir(dir);
});

test('HTTP/2 and compression', async () => {
    const t = new StreamTail(url, 'items', ['--ca', join(dir, 'cert')]);
    await t.until('the rows', () => t.rows.size === 1000 && t.upToDates > 0);
    await suite.db.sql("update items set v = 'new' where id = 7");
    await t.until('the change', () => t.rows.get('"public"."items"/"7"')?.v === 'new');
    expect([...protocols]).toEqual(['2.0']);
    expect(sessions).toBe(1); // all requests by one connection
    expect(compressed).toBeGreaterThan(0);
    expect(await t.stop()).toBe(0);
});

test('events over HTTP/2', async () => {
    const t = new StreamTail(url, 'items', ['--ca', join(dir, 'cert'), '--sse']);
    await t.until('the rows', () => t.rows.size === 1000 && t.upToDates > 0);
    for (let i = 0; i < 5; i++) {
        await suite.db.sql(`update items set v = 'event${i}' where id = 8`);
        await t.until('the change', () => t.rows.get('"public"."items"/"8"')?.v === `event${i}`);
    }
    expect(await t.stop()).toBe(0);
});

test('a certificate that is not vouched for', async () => {
    const t = new StreamTail(url, 'items');
    await t.until('a retry', () => t.log.includes('event=stream.retry'));
    await sleep(100);
    expect(t.told).toEqual([]);
    expect(await t.stop()).toBe(0);
});

// The docs as a reader would follow them: `coulomb dev` with the gatekeeper on, the template of the
// authorising function and the schema's SQL taken from the pages themselves.
import { spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { coulombBin } from '../support/coulomb.js';
import { exchange } from '../support/http.js';
import { exitOf, Hopeless, removeDir, tempDir, trackPid, until, untrackPid } from '../support/process.js';
import { AUTH_SECRET, authToken, bearer, SHAPE_SECRET } from '../support/tokens.js';
import { contents } from './world.js';

const docs = (name: string): string =>
    readFileSync(fileURLToPath(new URL(`../../../docs/${name}`, import.meta.url)), 'utf8');

/** The indented block that begins with that line. */
function block(page: string, first: string): string {
    const lines = docs(page).split('\n');
    const from = lines.findIndex((line) => line.startsWith(`    ${first}`));
    expect(from).toBeGreaterThan(0);
    let to = from;
    while (to < lines.length && (lines[to] === '' || lines[to].startsWith('    '))) to++;
    return lines.slice(from, to).map((line) => line.slice(4)).join('\n');
}

let dir = '';
let dev: ChildProcess | undefined;
let log = '';
let url = '';
let db: pg.Client;

beforeAll(async () => {
    dir = tempDir('dev');
    chmodSync(dir, 0o755);
    dev = spawn(coulombBin(), [
        'dev', '--data-dir', join(dir, 'data'), '--port', '0', '--auth-secret', AUTH_SECRET,
        '--shape-secret', SHAPE_SECRET, '--gate-function', 'app.authorize_shape', '--write-roles', 'app_user',
    ], { env: { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? dir }, stdio: ['ignore', 'pipe', 'pipe'] });
    trackPid(dev.pid!);
    for (const stream of [dev.stdout!, dev.stderr!]) {
        stream.setEncoding('utf8');
        stream.on('data', (text: string) => (log += text));
    }
    await until('coulomb dev to be ready', () => {
        if (dev!.exitCode !== null) throw new Hopeless(`it ended with ${dev!.exitCode}`);
        return log.includes('event=dev.ready');
    }, 60_000, 50).catch((error) => { throw new Error(`${String(error)}\n${log.slice(-2000)}`); });
    url = /http:\/\/127\.0\.0\.1:\d+/.exec(log)![0];
    const [, user, password, host, port, database] =
        /psql postgresql:\/\/([^:]+):([^@]+)@([^:]+):(\d+)\/(\w+)/.exec(log)!;
    db = new pg.Client({ user, password, host, port: Number(port), database });
    await db.connect();
});

afterAll(async () => {
    await db?.end();
    if (dev) {
        dev.kill('SIGTERM');
        await exitOf(dev);
        untrackPid(dev.pid!);
    }
    removeDir(dir);
});

test('the template grants and refuses as the page says', async () => {
    await db.query(`create role app_user nologin;
        create table messages(id int primary key, conversation_id text, role text, content text, status text,
            created_at timestamptz, updated_at timestamptz, hidden text);
        create table members(conversation_id text, user_id text);
        insert into members values ('c1', 'amira');
        insert into messages(id, conversation_id, content) values (1, 'c1', 'hers'), (2, 'c2', 'not hers')`);
    await db.query(block('gatekeeper.md', 'CREATE SCHEMA app;'));
    const ask = (params: unknown, sub = 'amira', table = 'messages') => exchange(url, '/shapes/auth-token', {
        method: 'POST', body: { table, params }, headers: bearer(authToken(sub)),
    });
    const read = async (params: unknown): Promise<string[]> => contents(await exchange(url, '/shape?offset=-1', {
        headers: bearer((await ask(params)).json().token),
    }));
    expect(await read({ conversationId: 'c1' })).toEqual(['hers']);
    expect(await read({})).toEqual([]);
    expect((await ask({ conversationId: 'c2' })).status).toBe(403);
    expect((await ask({ conversationId: 'c1' }, 'ben')).status).toBe(403);
    expect((await ask({}, 'amira', 'members')).status).toBe(403);
});

test('what the pages say to run in psql runs', async () => {
    const { rows } = (await db.query(block('gatekeeper.md', 'BEGIN; SET LOCAL ROLE app_user;') + '; ROLLBACK') as any)
        .find((r: any) => r.rows.length === 1);
    expect(JSON.stringify(rows[0])).toContain('"table":"messages"');
    await db.query(block('security.md', 'BEGIN;'));
    // The schema's SQL is what the server itself runs, so it does nothing when that was there first.
    await db.query(block('writing.md', 'CREATE SCHEMA IF NOT EXISTS coulomb;'));
    const insert = { mutations: [{ op: 'insert', table: 'notes', values: { id: 1 } }] };
    await db.query('create table notes(id int primary key); grant all on notes to app_user');
    const reply = await exchange(url, '/v1/transactions',
        { method: 'POST', body: { id: 'a', ...insert }, headers: bearer(authToken('amira')) });
    expect([reply.status, reply.text]).toEqual([200, expect.stringContaining('"txid":')]);
});

test('/v1/shape and the page need the secret that was printed', async () => {
    const secret = /\?secret=(\w+)/.exec(log)![1];
    expect((await exchange(url, '/v1/shape?table=messages&offset=-1')).status).toBe(401);
    expect((await exchange(url, `/v1/shape?table=messages&offset=-1&secret=${secret}`)).status).toBe(200);
});

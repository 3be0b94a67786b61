// Auth tokens: every way in which one may be wrong, and every algorithm that may be right.
import http from 'node:http';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { Coulomb } from '../support/coulomb.js';
import { removeDir, tempDir, until } from '../support/process.js';
import { useSuite } from '../support/suite.js';
import {
    AUTH_SECRET, authToken, base64url, bearer, GATE_ENV, hmac, keyPair, makeToken, nowS,
    SHAPE_SECRET, shapeToken, signedBy, type KeyKind,
} from '../support/tokens.js';
import { WORLD, WORLD_ENV } from './world.js';

const suite = useSuite('tokens', {
    setup: WORLD,
    env: {
        ...GATE_ENV, ...WORLD_ENV, COULOMB_AUTH_ISSUER: '', COULOMB_AUTH_CLOCK_SKEW: '5s',
        ELECTRIC_LOG_LEVEL: 'debug',
    },
});

const dir = tempDir('keys');
afterAll(() => removeDir(dir));

const ask = (token: string | undefined, server: Coulomb = suite.server) =>
    server.get('/shapes/auth-token', {
        method: 'POST', body: { table: 'messages' }, headers: token === undefined ? {} : bearer(token),
    });

const codeOf = async (token: string | undefined, server?: Coulomb): Promise<string> => {
    const reply = await ask(token, server);
    if (reply.status === 200) return 'accepted';
    expect(reply.status).toBe(401);
    expect(reply.headers['www-authenticate']).toMatch(/^Bearer realm="coulomb"/);
    expect(reply.headers['cache-control']).toBe('no-store');
    return reply.json().code;
};

describe('refused', () => {
    const good = authToken('amira');
    const [header, payload, signature] = good.split('.');

    test('no token, another scheme, an empty one', async () => {
        expect(await codeOf(undefined)).toBe('missing');
        for (const authorization of ['', 'Bearer', 'Bearer ', `Basic ${base64url('a:b')}`, good]) {
            const reply = await suite.server.get('/shapes/auth-token', {
                method: 'POST', body: { table: 'messages' }, headers: { authorization },
            });
            expect([authorization, reply.status, reply.json().code]).toEqual([authorization, 401, 'missing']);
        }
    });

    test('forged: another secret, a changed payload, a changed signature', async () => {
        expect(await codeOf(makeToken({ alg: 'HS256' }, { sub: 'amira', exp: nowS() + 99 },
            hmac('some other secret that is long enough')))).toBe('signature');
        const other = base64url(JSON.stringify({ sub: 'ben', exp: nowS() + 99 }));
        expect(await codeOf(`${header}.${other}.${signature}`)).toBe('signature');
        const flipped = signature.replace(/^./, (c) => (c === 'A' ? 'B' : 'A'));
        expect(await codeOf(`${header}.${payload}.${flipped}`)).toBe('signature');
    });

    test('expired, not valid yet, without an end', async () => {
        expect(await codeOf(authToken('amira', { exp: nowS() - 10 }))).toBe('expired');
        expect(await codeOf(authToken('amira', { exp: nowS() - 2 }))).toBe('accepted'); // skew
        expect(await codeOf(authToken('amira', { nbf: nowS() + 60 }))).toBe('not_yet');
        expect(await codeOf(authToken('amira', { nbf: nowS() + 2 }))).toBe('accepted');
        for (const exp of [undefined, 'soon', -1, 1e300, null, true]) {
            expect([exp, await codeOf(authToken('amira', { exp }))]).toEqual([exp, 'claims']);
        }
    });

    test('alg=none in every spelling, with and without a signature', async () => {
        for (const alg of ['none', 'None', 'NONE', 'nOnE', '', null, undefined, 0]) {
            const unsigned = makeToken({ alg }, { sub: 'amira', exp: nowS() + 99 }, () => Buffer.alloc(0));
            const signed = makeToken({ alg }, { sub: 'amira', exp: nowS() + 99 }, hmac(AUTH_SECRET));
            expect([alg, await codeOf(unsigned)]).toEqual([alg, 'algorithm']);
            expect([alg, await codeOf(signed)]).toEqual([alg, 'algorithm']);
        }
        const stripped = `${header}.${payload}.`;
        expect(await codeOf(stripped)).toBe('malformed');
    });

    test('an algorithm that is not pinned, though the secret is right', async () => {
        expect(await codeOf(makeToken({ alg: 'HS512' }, { sub: 'amira', exp: nowS() + 99 },
            hmac(AUTH_SECRET, 'sha512')))).toBe('algorithm');
    });

    test('truncated, padded, and otherwise not three parts', async () => {
        const parts = [
            good.slice(0, -1), `${good}=`, `${good}A`, `${header}.${payload}`, header, '.', '..', '...',
            `${good}.x`, `.${payload}.${signature}`, `${header}..${signature}`, `${header} .${payload}.${signature}`,
            `${header}.${payload}.${signature.slice(0, 10)}`, '{"payload":"e30","signatures":[]}',
            `${base64url('[]')}.${payload}.${signature}`, `${base64url('"x"')}.${payload}.${signature}`,
        ];
        for (const text of parts) {
            const code = await codeOf(text);
            expect([text.length, ['malformed', 'signature'].includes(code)]).toEqual([text.length, true]);
        }
    });

    test('huge', async () => {
        expect(await codeOf(authToken('amira', { x: 'y'.repeat(7000) }))).toBe('too_large');
        const reply = await ask('A'.repeat(200_000)).catch(() => undefined);
        expect(reply === undefined || reply.status >= 400).toBe(true);
    });

    test('nested: a token in a token', async () => {
        expect(await codeOf(makeToken({ alg: 'HS256', cty: 'JWT' }, good, hmac(AUTH_SECRET)))).toBe('malformed');
        expect(await codeOf(makeToken({ alg: 'HS256' }, good, hmac(AUTH_SECRET)))).toBe('claims');
        expect(await codeOf(makeToken({ alg: 'HS256' }, '['.repeat(3000), hmac(AUTH_SECRET)))).toBe('claims');
    });

    test('headers that change what the rest means', async () => {
        for (const extra of [{ crit: ['exp'] }, { b64: false }, { zip: 'DEF' }]) {
            expect(await codeOf(authToken('amira', {}, extra))).toBe('malformed');
        }
    });

    test('a key that the token brings along', async () => {
        const pair = keyPair('RS256');
        const own = signedBy(pair, 'amira', {}, { jwk: pair.jwk });
        expect(await codeOf(own)).toBe('algorithm');
        const k = base64url('some other secret that is long enough');
        const jwk = makeToken({ alg: 'HS256', jwk: { kty: 'oct', k } }, { sub: 'amira', exp: nowS() + 99 },
            hmac('some other secret that is long enough'));
        expect(await codeOf(jwk)).toBe('signature');
    });

    test('members given twice, in header and claims', async () => {
        const twice = makeToken('{"alg":"none","alg":"HS256"}',
            { sub: 'amira', exp: nowS() + 99 }, hmac(AUTH_SECRET));
        expect(await codeOf(twice)).toBe('malformed');
        const claims = makeToken({ alg: 'HS256' }, `{"sub":"ben","sub":"amira","exp":${nowS() + 99}}`,
            hmac(AUTH_SECRET));
        expect(await codeOf(claims)).toBe('claims');
    });

    test('without a subject, with one that is none', async () => {
        for (const sub of [undefined, '', null, {}, ['amira'], 'x'.repeat(300)]) {
            expect([sub, await codeOf(authToken('x', { sub }))]).toEqual([sub, 'subject']);
        }
        expect(await codeOf(authToken('x', { sub: 'a\u0000b' }))).toBe('claims');
    });

    test('a shape token, and one signed as such', async () => {
        expect(await codeOf(shapeToken({ table: 'messages' }, { sub: 'amira' }))).toBe('type');
        expect(await codeOf(makeToken({ alg: 'HS256' }, { sub: 'amira', exp: nowS() + 99 },
            hmac(SHAPE_SECRET)))).toBe('signature');
    });
});

describe('public keys', () => {
    const kinds: KeyKind[] = ['RS256', 'PS256', 'ES256', 'EdDSA'];

    const start = (env: Record<string, string>): Promise<Coulomb> =>
        suite.another({
            ...GATE_ENV, ...WORLD_ENV, COULOMB_AUTH_SECRET: '', ELECTRIC_STORAGE: 'MEMORY',
            ELECTRIC_PERSISTENT_STATE: 'MEMORY', ELECTRIC_LOG_LEVEL: 'debug', ...env,
        });

    test('PEM: every algorithm; key confusion is refused', async () => {
        for (const kind of kinds) {
            const pair = keyPair(kind);
            const file = join(dir, `${kind}.pem`);
            writeFileSync(file, pair.pem);
            const server = await start({ COULOMB_AUTH_KEY_FILE: file, COULOMB_AUTH_ALGORITHMS: kind });
            expect([kind, await codeOf(signedBy(pair, 'amira'), server)]).toEqual([kind, 'accepted']);
            expect(await codeOf(signedBy(keyPair(kind), 'amira'), server)).toBe('signature');
            // The public key, which everybody knows, taken for a secret.
            for (const secret of [pair.pem, pair.pem.trim(), JSON.stringify(pair.jwk)]) {
                expect(await codeOf(makeToken({ alg: 'HS256' }, { sub: 'amira', exp: nowS() + 99 },
                    hmac(secret)), server)).toBe('algorithm');
            }
            // RS256's key does for PS256, too: unless that is not pinned.
            if (kind === 'RS256') {
                const sign = keyPair('PS256');
                expect(await codeOf(signedBy({ ...sign, alg: 'PS256' }, 'amira'), server)).toBe('algorithm');
            }
            await server.close();
        }
    });

    test('HS algorithms that are pinned beside a public key do not make it a secret', async () => {
        const pair = keyPair('RS256');
        writeFileSync(join(dir, 'both.pem'), pair.pem);
        const server = await start({
            COULOMB_AUTH_KEY_FILE: join(dir, 'both.pem'), COULOMB_AUTH_ALGORITHMS: 'HS256,RS256',
        });
        expect(await codeOf(signedBy(pair, 'amira'), server)).toBe('accepted');
        expect(await codeOf(makeToken({ alg: 'HS256' }, { sub: 'amira', exp: nowS() + 99 },
            hmac(pair.pem)), server)).toBe('key');
        await server.close();
    });

    test('HS384 and HS512', async () => {
        for (const [alg, hash] of [['HS384', 'sha384'], ['HS512', 'sha512']]) {
            const server = await start({ COULOMB_AUTH_SECRET: AUTH_SECRET, COULOMB_AUTH_ALGORITHMS: alg });
            expect(await codeOf(makeToken({ alg }, { sub: 'amira', exp: nowS() + 99 },
                hmac(AUTH_SECRET, hash)), server)).toBe('accepted');
            expect(await codeOf(authToken('amira'), server)).toBe('algorithm');
            await server.close();
        }
    });

    test('issuer and audience', async () => {
        const server = await start({
            COULOMB_AUTH_SECRET: AUTH_SECRET, COULOMB_AUTH_ISSUER: 'https://id', COULOMB_AUTH_AUDIENCE: 'sync',
        });
        const right = { iss: 'https://id', aud: 'sync' };
        expect(await codeOf(authToken('amira', right), server)).toBe('accepted');
        expect(await codeOf(authToken('amira', { ...right, aud: ['x', 'sync'] }), server)).toBe('accepted');
        expect(await codeOf(authToken('amira', { ...right, aud: 'other' }), server)).toBe('audience');
        expect(await codeOf(authToken('amira', { ...right, aud: undefined }), server)).toBe('audience');
        expect(await codeOf(authToken('amira', { ...right, iss: 'https://id/' }), server)).toBe('issuer');
        expect(await codeOf(authToken('amira', { aud: 'sync' }), server)).toBe('issuer');
        await server.close();
    });

    test('a key set: keys by name, rotation by address, an outage of it', async () => {
        const first = keyPair('ES256');
        const second = keyPair('EdDSA');
        let keys: unknown[] = [];
        let fetched = 0;
        const provider = http.createServer((_, response) => {
            fetched++;
            if (keys.length === 0) response.writeHead(500).end();
            else response.end(JSON.stringify({ keys }));
        });
        await new Promise<void>((done) => provider.listen(0, '127.0.0.1', done));
        const { port } = provider.address() as { port: number };
        const server = await start({ COULOMB_AUTH_JWKS_URL: `http://127.0.0.1:${port}/keys` });
        const one = (): string => signedBy(first, 'amira', {}, { kid: 'one' });
        const two = (): string => signedBy(second, 'amira', {}, { kid: 'two' });
        try {
            // Nothing is known yet: nobody is refused for good.
            const early = await ask(one(), server);
            expect([early.status, early.headers['retry-after']]).toEqual([503, '2']);
            keys = [{ ...first.jwk, kid: 'one', use: 'sig' }, { kty: 'oct', k: base64url(AUTH_SECRET) }];
            await until('the keys to be fetched', async () => (await ask(one(), server)).status === 200, 30_000);
            // A secret in a public set is no key.
            expect(await codeOf(authToken('amira'), server)).toBe('algorithm');
            // Rotation: an unknown name makes it look again.
            keys = [{ ...second.jwk, kid: 'two' }];
            expect(await codeOf(two(), server)).toBe('key');
            await until('the new keys', async () => (await ask(two(), server)).status === 200, 30_000);
            expect(await codeOf(one(), server)).toBe('key');
            // The provider is gone: what was known goes on.
            provider.closeAllConnections();
            await new Promise((done) => provider.close(done));
            expect(await codeOf(two(), server)).toBe('accepted');
            expect(fetched).toBeGreaterThan(1);
        } finally {
            provider.close();
            await server.close();
        }
    });
});

test('nothing of a token is in the log, at its most talkative', async () => {
    const tokens = [authToken('amira'), authToken('amira', { exp: 1 }), authToken('x', {}, { alg: 'none' })];
    for (const token of tokens) await ask(token);
    // Where tokens do not belong, but end up.
    await suite.server.get(`/shape?offset=-1&token=${tokens[0]}&access_token=${tokens[0]}`);
    expect(suite.server.log).toContain('event=gate.token_refused');
    for (const part of tokens.flatMap((token) => token.split('.'))) {
        expect(suite.server.log.includes(part.slice(0, 16)) && part.length > 16).toBe(false);
    }
    for (const secret of [AUTH_SECRET, SHAPE_SECRET]) expect(suite.server.log).not.toContain(secret);
});

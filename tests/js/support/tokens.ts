// JSON Web Tokens made by hand, so that tests can make wrong ones as well as right ones.
import { createHmac, createSign, generateKeyPairSync, sign as signWith, type KeyObject,
    constants } from 'node:crypto';

export const AUTH_SECRET = 'an auth secret of at least 32 bytes';
export const SHAPE_SECRET = 'a shape secret of at least 32 bytes';
export const API_SECRET = 'the-secret-of-v1-shape';

export type Claims = Record<string, unknown>;

export const base64url = (data: string | Buffer): string => Buffer.from(data).toString('base64url');

export const nowS = (): number => Math.floor(Date.now() / 1000);

/** A token over any header and payload, signed by a function of the signing input. */
export function makeToken(
    header: unknown, payload: unknown, signer: (input: string) => Buffer,
): string {
    const text = (part: unknown): string => typeof part === 'string' ? part : JSON.stringify(part);
    const input = `${base64url(text(header))}.${base64url(text(payload))}`;
    return `${input}.${base64url(signer(input))}`;
}

export const hmac = (secret: string | Buffer, hash = 'sha256') => (input: string): Buffer =>
    createHmac(hash, secret).update(input).digest();

/** The app's own token. */
export function authToken(sub: string, claims: Claims = {}, header: Claims = {}): string {
    return makeToken({ alg: 'HS256', typ: 'JWT', ...header },
        { sub, exp: nowS() + 300, ...claims }, hmac(AUTH_SECRET));
}

/** A shape token as the server would make it, of anything. */
export function shapeToken(shape: unknown, claims: Claims = {}, header: Claims = {}): string {
    return makeToken({ typ: 'shape+jwt', alg: 'HS256', ...header },
        { aud: 'coulomb:shape', exp: nowS() + 300, shape, ...claims }, hmac(SHAPE_SECRET));
}

export const bearer = (token: string): Record<string, string> =>
    ({ authorization: `Bearer ${token}` });

export type KeyKind = 'RS256' | 'PS256' | 'ES256' | 'EdDSA';

export interface Pair {
    alg: KeyKind;
    publicKey: KeyObject;
    pem: string;
    jwk: Record<string, unknown>;
    sign(input: string): Buffer;
}

export function keyPair(alg: KeyKind, bits = 2048): Pair {
    const { publicKey, privateKey } = alg === 'ES256'
        ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
        : alg === 'EdDSA'
          ? generateKeyPairSync('ed25519')
          : generateKeyPairSync('rsa', { modulusLength: bits });
    const sign = (input: string): Buffer => {
        if (alg === 'EdDSA') return signWith(null, Buffer.from(input), privateKey);
        if (alg === 'ES256') {
            return createSign('sha256').update(input)
                .sign({ key: privateKey, dsaEncoding: 'ieee-p1363' });
        }
        if (alg === 'PS256') {
            return createSign('sha256').update(input).sign({
                key: privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32,
            });
        }
        return createSign('sha256').update(input).sign(privateKey);
    };
    return {
        alg, publicKey, sign,
        pem: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
        jwk: publicKey.export({ format: 'jwk' }) as Record<string, unknown>,
    };
}

export function signedBy(pair: Pair, sub: string, claims: Claims = {}, header: Claims = {}): string {
    return makeToken({ alg: pair.alg, ...header }, { sub, exp: nowS() + 300, ...claims }, pair.sign);
}

/** Settings that switch the gatekeeper on. */
export const GATE_ENV = {
    ELECTRIC_SECRET: API_SECRET,
    COULOMB_AUTH_SECRET: AUTH_SECRET,
    COULOMB_SHAPE_SECRET: SHAPE_SECRET,
    COULOMB_GATE_RATE: '0',
};

/** Roles belong to the cluster, which suites share: made once. */
export const ROLES = `
    do $$
    declare name text;
    begin
        foreach name in array array['coulomb_user', 'coulomb_editor', 'coulomb_anonymous'] loop
            begin
                execute format('create role %I nologin', name);
            exception when duplicate_object or unique_violation then null;
            end;
        end loop;
    end $$;`;

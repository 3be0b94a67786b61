// An event stream with a token, read as text.
import http from 'node:http';
import { until } from '../support/process.js';

export interface Sse {
    readonly text: string;
    until(part: string): Promise<void>;
    closed: Promise<void>;
}

export async function openSse(port: number, path: string, token: string): Promise<Sse> {
    let text = '';
    const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
        http.get({ host: '127.0.0.1', port, path, headers: { authorization: `Bearer ${token}` } }, resolve)
            .on('error', reject);
    });
    if (response.statusCode !== 200) throw new Error(`status ${response.statusCode}`);
    response.on('data', (part) => { text += part; });
    const closed = new Promise<void>((done) => {
        response.on('close', done);
        response.on('error', () => undefined);
    });
    return {
        get text() { return text; },
        until: async (part) => { await until(`"${part}" in the stream`, () => text.includes(part), 10_000); },
        closed,
    };
}

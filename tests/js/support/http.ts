// A plain HTTP client over node:http that shows what is on the wire: paths are sent as
// written, all headers are kept, nothing is followed, retried or decoded beyond gzip.
import http from 'node:http';
import { gunzipSync } from 'node:zlib';

export type Headers = Record<string, string>;

export interface RequestOptions {
    method?: string;
    headers?: Headers;
    /** Sent as JSON unless it is a string. */
    body?: unknown;
    signal?: AbortSignal;
    /** The whole exchange must end within this time. */
    timeoutMs?: number;
}

export interface Reply {
    status: number;
    headers: Headers;
    rawHeaders: string[];
    /** The decoded body as text. */
    text: string;
    tookMs: number;
    /** The body as JSON; throws with context if it is none. */
    json(): any;
}

const agent = new http.Agent({ keepAlive: true, maxSockets: 256 });

function flatten(headers: http.IncomingHttpHeaders): Headers {
    const flat: Headers = {};
    for (const [name, value] of Object.entries(headers)) {
        if (value !== undefined) flat[name] = Array.isArray(value) ? value.join(', ') : value;
    }
    return flat;
}

function open(
    base: string,
    path: string,
    options: RequestOptions,
    onResponse: (response: http.IncomingMessage) => void,
    onError: (error: Error) => void,
): http.ClientRequest {
    const url = new URL(base);
    const body =
        options.body === undefined
            ? undefined
            : typeof options.body === 'string'
              ? options.body
              : JSON.stringify(options.body);
    const headers: Headers = { ...options.headers };
    if (body !== undefined) {
        headers['content-length'] ??= String(Buffer.byteLength(body));
        headers['content-type'] ??= 'application/json';
    }
    const request = http.request(
        {
            host: url.hostname,
            port: url.port,
            path,
            method: options.method ?? 'GET',
            headers,
            agent,
            signal: options.signal,
        },
        onResponse,
    );
    request.on('error', onError);
    request.end(body);
    return request;
}

/** One exchange, read to the end of the body. */
export async function exchange(
    base: string,
    path: string,
    options: RequestOptions = {},
): Promise<Reply> {
    try {
        return await exchangeOnce(base, path, options);
    } catch (error) {
        // A kept-alive connection that the server closed in the same moment says nothing
        // about this request; a fresh one does.
        const code = (error as NodeJS.ErrnoException).code;
        const reused = (error as { reusedSocket?: boolean }).reusedSocket;
        if (reused && (code === 'ECONNRESET' || code === 'EPIPE')) {
            return await exchangeOnce(base, path, options);
        }
        throw error;
    }
}

function exchangeOnce(base: string, path: string, options: RequestOptions): Promise<Reply> {
    const started = performance.now();
    return new Promise<Reply>((resolve, reject) => {
        const fail = (error: Error): void => {
            clearTimeout(timer);
            (error as { reusedSocket?: boolean }).reusedSocket = request.reusedSocket;
            reject(error);
        };
        const request = open(base, path, options, (response) => {
            const parts: Buffer[] = [];
            response.on('data', (part: Buffer) => parts.push(part));
            response.on('error', fail);
            response.on('aborted', () => fail(new Error(`connection lost in the body of ${path}`)));
            response.on('end', () => {
                clearTimeout(timer);
                let raw = Buffer.concat(parts);
                if (response.headers['content-encoding'] === 'gzip' && raw.length > 0) {
                    raw = gunzipSync(raw) as Buffer<ArrayBuffer>;
                }
                const text = raw.toString('utf8');
                resolve({
                    status: response.statusCode ?? 0,
                    headers: flatten(response.headers),
                    rawHeaders: response.rawHeaders,
                    text,
                    tookMs: performance.now() - started,
                    json() {
                        try {
                            return JSON.parse(text);
                        } catch (error) {
                            throw new Error(`no JSON from ${path}: ${text.slice(0, 300)}`, {
                                cause: error,
                            });
                        }
                    },
                });
            });
        }, fail);
        const limit = options.timeoutMs ?? 60_000;
        const timer = setTimeout(() => {
            request.destroy(new Error(`no complete answer within ${limit} ms to ${path}`));
        }, limit);
    });
}

/** A response that stays open: an event stream, or a body read piece by piece. */
export class OpenResponse {
    readonly writes: { atMs: number; text: string }[] = [];
    status = 0;
    headers: Headers = {};
    /** Milliseconds until the server ended the response; null while it is open. */
    closedAtMs: number | null = null;
    private readonly request: http.ClientRequest;
    private response: http.IncomingMessage | undefined;
    private readonly started = performance.now();
    /** Settles when the headers are there. */
    readonly opened: Promise<void>;
    /** Settles when the response has ended, from either side. */
    readonly ended: Promise<void>;

    constructor(base: string, path: string, options: RequestOptions = {}) {
        let markOpen: () => void;
        let markEnd: () => void;
        let markFailed: (error: Error) => void;
        this.opened = new Promise((resolve, reject) => {
            markOpen = resolve;
            markFailed = reject;
        });
        this.ended = new Promise((resolve) => (markEnd = resolve));
        this.opened.catch(() => undefined);
        const close = (): void => {
            this.closedAtMs ??= performance.now() - this.started;
            markEnd();
        };
        this.request = open(
            base,
            path,
            options,
            (response) => {
                this.response = response;
                this.status = response.statusCode ?? 0;
                this.headers = flatten(response.headers);
                response.setEncoding('utf8');
                response.on('data', (text: string) => {
                    this.writes.push({ atMs: performance.now() - this.started, text });
                });
                response.on('end', close);
                response.on('error', close);
                response.on('close', () => markEnd());
                markOpen();
            },
            (error) => {
                markFailed(error);
                markEnd();
            },
        );
    }

    get text(): string {
        return this.writes.map((w) => w.text).join('');
    }

    /** Complete event-stream items so far: parsed messages; comments as their text. */
    get events(): any[] {
        const blocks = this.text.split('\n\n');
        blocks.pop();
        return blocks.map((block) => {
            if (block.startsWith('data: ')) return JSON.parse(block.slice('data: '.length));
            return block;
        });
    }

    pause(): void {
        this.response?.pause();
    }

    resume(): void {
        this.response?.resume();
    }

    /** The reader leaves. */
    leave(): void {
        this.request.destroy();
    }
}

export function query(params: Record<string, string | number | boolean | undefined>): string {
    const parts: string[] = [];
    for (const [name, value] of Object.entries(params)) {
        if (value === undefined) continue;
        parts.push(`${encodeURIComponent(name)}=${encodeURIComponent(String(value))}`);
    }
    return parts.join('&');
}

// The unmodified npm client on a shape, with everything it delivers kept for assertions.
import {
    isChangeMessage, isControlMessage, Shape, ShapeStream, type Message, type Row,
} from '@electric-sql/client';
import { Hopeless, until } from './process.js';

export type AnyRow = Record<string, any>;

export interface RealClientOptions {
    liveSse?: boolean;
    /** Values stay the text of the wire. */
    raw?: boolean;
    log?: 'full' | 'changes_only';
    offset?: string;
    handle?: string;
    subscribe?: boolean;
}

const TEXT = (value: string): string => value;

// Every type that the client would parse.
const RAW_PARSER = Object.fromEntries(
    ['int2', 'int4', 'int8', 'bool', 'float4', 'float8', 'json', 'jsonb'].map((t) => [t, TEXT]),
);

export class RealClient {
    readonly stream: ShapeStream<any>;
    readonly shape: Shape<any>;
    /** Every message that the client delivered, in order. */
    readonly messages: Message<Row<any>>[] = [];
    readonly errors: Error[] = [];
    /** Requests that the client made: method and URL without the origin. */
    readonly requests: string[] = [];
    readonly statuses: number[] = [];
    private readonly abort = new AbortController();

    constructor(url: string, params: Record<string, any>, options: RealClientOptions = {}) {
        this.stream = new ShapeStream({
            url,
            params,
            signal: this.abort.signal,
            liveSse: options.liveSse,
            log: options.log,
            offset: options.offset as any,
            handle: options.handle,
            subscribe: options.subscribe ?? true,
            warnOnHttp: false,
            parser: options.raw ? (RAW_PARSER as any) : undefined,
            backoffOptions: { initialDelay: 20, maxDelay: 250, multiplier: 1.5 },
            fetchClient: async (input, init) => {
                const target = new URL(String(input instanceof Request ? input.url : input));
                this.requests.push(target.pathname + target.search);
                const response = await fetch(input, init);
                this.statuses.push(response.status);
                return response;
            },
            onError: (error) => {
                this.errors.push(error);
            },
        });
        this.stream.subscribe((messages) => void this.messages.push(...messages));
        this.shape = new Shape(this.stream);
    }

    get changes(): any[] {
        return this.messages.filter(isChangeMessage);
    }

    get controls(): string[] {
        return this.messages.filter(isControlMessage).map((m) => m.headers.control);
    }

    get rows(): AnyRow[] {
        return this.shape.currentRows;
    }

    /** Rows in a stable order. */
    sorted(column = 'id'): AnyRow[] {
        const rank = (row: AnyRow): any => row[column];
        return [...this.rows].sort((a, b) => (rank(a) < rank(b) ? -1 : rank(a) > rank(b) ? 1 : 0));
    }

    /** Waits until the rows satisfy the condition and the client is up to date. */
    async until(what: string, check: (rows: AnyRow[]) => boolean, timeoutMs = 20_000): Promise<void> {
        await until(what, () => {
            if (this.errors.length > 0) throw new Hopeless(String(this.errors[0]));
            return this.shape.isUpToDate && check(this.rows);
        }, timeoutMs, 5).catch((error) => {
            const rows = JSON.stringify(this.rows, (_k, v) => (typeof v === 'bigint' ? `${v}n` : v));
            throw new Error(`${(error as Error).message}; rows: ${rows.slice(0, 500)}`);
        });
    }

    async upToDate(): Promise<void> {
        await this.until('the client to be up to date', () => true);
    }

    stop(): void {
        this.stream.unsubscribeAll();
        this.abort.abort();
    }
}

const open: RealClient[] = [];

export function realClient(
    url: string, params: Record<string, any>, options: RealClientOptions = {},
): RealClient {
    const client = new RealClient(url, params, options);
    open.push(client);
    return client;
}

/** For afterEach. */
export function stopClients(): void {
    for (const client of open.splice(0)) client.stop();
}

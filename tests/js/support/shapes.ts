// Shorthands for tests that speak the protocol by hand.
import type { Coulomb, Params } from './coulomb.js';
import { Follower, type Row } from './follower.js';
import type { Reply } from './http.js';
import { Hopeless, until } from './process.js';

/** Position of a client that has read a shape to its end. */
export interface Position {
    handle: string;
    offset: string;
    messages: any[];
}

/** Reads a shape from the start, or from a position, until it is up to date. */
export async function readToEnd(
    server: Coulomb, params: Params, from?: Partial<Position>,
): Promise<Position> {
    let offset = from?.offset ?? '-1';
    let handle = from?.handle;
    const messages: any[] = [];
    for (;;) {
        const reply = await server.shape({ ...params, offset, handle });
        if (reply.status !== 200) throw new Error(`status ${reply.status}: ${reply.text}`);
        offset = reply.headers['electric-offset'];
        handle = reply.headers['electric-handle'];
        messages.push(...reply.json());
        if (reply.headers['electric-up-to-date'] !== undefined) return { handle, offset, messages };
    }
}

/** Change messages among others. */
export function changesOf(messages: any[]): any[] {
    return messages.filter((m) => m.headers.operation);
}

/** Waits until the log after `from` holds entries; gives the answer that has them. */
export async function nextEntries(
    server: Coulomb, params: Params, from: Position, timeoutMs = 10_000,
): Promise<{ reply: Reply; changes: any[] }> {
    return await until('entries in the log', async () => {
        const reply = await server.shape({ ...params, offset: from.offset, handle: from.handle });
        if (reply.status !== 200) throw new Hopeless(`status ${reply.status}: ${reply.text}`);
        const changes = changesOf(reply.json());
        return changes.length > 0 ? { reply, changes } : false;
    }, timeoutMs);
}

/** Waits until the request is answered with that status. */
export async function untilStatus(
    server: Coulomb, params: Params, status: number, timeoutMs = 15_000,
): Promise<Reply> {
    let last = '';
    return await until(`status ${status}`, async () => {
        const reply = await server.shape(params);
        last = `${reply.status} ${reply.text.slice(0, 200)}`;
        return reply.status === status ? reply : false;
    }, timeoutMs, 50).catch((error) => {
        throw new Error(`${(error as Error).message}; last: ${last}`);
    });
}

/** Waits until the follower's rows are those of the query, in any order. */
export async function untilRows(
    follower: Follower, truth: () => Promise<Row[]>, timeoutMs = 15_000,
): Promise<void> {
    const text = (rows: Iterable<Row>): string =>
        JSON.stringify([...rows].map((r) => JSON.stringify(Object.entries(r).sort())).sort());
    let seen = '';
    let wanted = '';
    await until('the rows to equal those of SELECT', async () => {
        if (follower.failure) throw new Hopeless(follower.failure.message);
        wanted = text(await truth());
        seen = text(follower.rows.values());
        return follower.upToDate && seen === wanted;
    }, timeoutMs).catch((error) => {
        throw new Error(
            `${(error as Error).message}\nwanted ${wanted.slice(0, 600)}\nseen   ${seen.slice(0, 600)}`,
        );
    });
}

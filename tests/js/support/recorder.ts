// What a server may never take back, over all its lives: a handle belongs to one shape and,
// once it is gone, is gone for ever; and what was served at a handle and an offset is
// served there again, byte for byte. All clients of a test share one recorder.
import { createHash } from 'node:crypto';
import { exchange, query, type Reply } from './http.js';
import type { Params } from './coulomb.js';
import { sleep } from './process.js';

/** How long a log may take to be where it was before a crash. */
const BEHIND_MS = 20_000;
const BEHIND_STEP_MS = 100;

export class BrokenPromise extends Error {}

interface Served {
    params: Params;
    handle: string;
    offset: string;
    /** The chunk is closed: the whole body is fixed. Else its first `length` characters. */
    complete: boolean;
    length: number;
    hash: string;
    /** How it began, and where it ended, for messages. */
    head: string;
    end: string;
}

interface Handle {
    shape: string;
    /** When a client was told that it is gone. */
    goneAt?: number;
    served: Map<string, Served>;
}

export interface Asked {
    offset: string;
    handle?: string;
    live?: boolean;
    /** performance.now() before the request was sent. */
    at: number;
}

const UP_TO_DATE = '{"headers":{"control":"up-to-date"';
const MAX_SERVED_PER_HANDLE = 5000;

/** Without the clause: those that mean the same are one shape, and the rows are compared anyway. */
function shapeOf(params: Params): string {
    return JSON.stringify(Object.entries(params).filter(([name, v]) => {
        return v !== undefined && name !== 'where' && !name.startsWith('params');
    }).sort());
}

function hashOf(text: string): string {
    return createHash('sha1').update(text).digest('hex');
}

/** The part of a body that can't change any more: all but an up-to-date message. */
function fixedPart(body: string): string {
    const end = body.lastIndexOf(UP_TO_DATE);
    return (end < 0 ? body.replace(/\]\s*$/, '') : body.slice(0, end)).replace(/[,\s]+$/, '');
}

export class Recorder {
    private readonly handles = new Map<string, Handle>();
    reread = 0;

    get handleCount(): number {
        return this.handles.size;
    }

    /** Takes in an answer; throws when it breaks a promise. False: the log is still behind. */
    reply(params: Params, asked: Asked, reply: Reply): boolean {
        const handle = reply.headers['electric-handle'];
        this.answered(params, asked, reply.status, handle);
        if (reply.status !== 200 || handle === undefined || asked.live) return true;
        return this.body(params, handle, asked.offset, reply);
    }

    /** An answer of which only this is known. */
    answered(params: Params, asked: Asked, status: number, handle: string | undefined): void {
        if (status === 409) this.gone(params, asked);
        else if (status === 200 && handle !== undefined) this.alive(params, handle, asked.at);
    }

    /** A 200 with that handle, to a request sent at `at`. */
    alive(params: Params, handle: string, at: number): void {
        const shape = shapeOf(params);
        let known = this.handles.get(handle);
        if (!known) {
            known = { shape, served: new Map() };
            this.handles.set(handle, known);
        }
        if (known.shape !== shape) {
            throw new BrokenPromise(`handle ${handle} of ${known.shape} was given to ${shape}`);
        }
        if (known.goneAt !== undefined && known.goneAt < at) {
            throw new BrokenPromise(`handle ${handle} of ${shape} was gone and is served again`);
        }
    }

    private gone(params: Params, asked: Asked): void {
        if (asked.handle === undefined || asked.offset === '-1') return;
        const known = this.handles.get(asked.handle);
        if (!known) {
            const handle = { shape: shapeOf(params), goneAt: performance.now(), served: new Map() };
            this.handles.set(asked.handle, handle);
        } else {
            known.goneAt ??= performance.now();
            known.served.clear();
        }
    }

    /** False when the log is not there yet. */
    private body(params: Params, handle: string, offset: string, reply: Reply): boolean {
        const complete = reply.headers['electric-up-to-date'] === undefined;
        const known = this.handles.get(handle)!;
        const before = known.served.get(offset);
        if (before && this.isBehind(before, complete, reply.text)) return false;
        if (before) this.compare(before, complete, reply.text);
        if (before?.complete || known.served.size >= MAX_SERVED_PER_HANDLE) return true;
        const text = complete ? reply.text : fixedPart(reply.text);
        known.served.set(offset, {
            params, handle, offset, complete, length: text.length, hash: hashOf(text),
            head: text.slice(0, 400), end: reply.headers['electric-offset'],
        });
        return true;
    }

    /**
     * The log doesn't reach as far as before: right after a crash it ends where the last
     * checkpoint was, until the slot has sent the rest again.
     */
    private isBehind(before: Served, complete: boolean, body: string): boolean {
        if (complete) return false;
        return before.complete || fixedPart(body).length < before.length;
    }

    private compare(before: Served, complete: boolean, body: string): void {
        const where = `${before.offset} of handle ${before.handle} of ${shapeOf(before.params)}`;
        const text = before.complete ? body : fixedPart(body);
        if (text.length < before.length) {
            throw new BrokenPromise(
                `${before.length} characters to ${before.end} were served at ${where}, now ${text.length}`);
        }
        const same = before.complete ? text : text.slice(0, before.length);
        if (hashOf(same) !== before.hash) {
            throw new BrokenPromise(
                `other bytes at ${where}\nbefore: ${before.head}\nnow:    ${body.slice(0, 400)}`);
        }
    }

    /** Everything that is still promised, newest handle last. */
    promised(): Served[] {
        const all: Served[] = [];
        for (const { goneAt, served } of this.handles.values()) {
            if (goneAt === undefined) all.push(...served.values());
        }
        return all;
    }

    /** Asks for it again; false when there was no answer to compare with (503). */
    async again(base: string, served: Served): Promise<boolean> {
        const { params, handle, offset } = served;
        for (let left = BEHIND_MS; ; left -= BEHIND_STEP_MS) {
            const answer = await this.once(base, served);
            if (answer !== 'behind') return answer === 'compared';
            if (left <= 0) {
                throw new BrokenPromise(
                    `${served.length} characters to ${served.end} were served at ${offset} of ` +
                    `handle ${handle} of ${shapeOf(params)}; the log stays behind`);
            }
            await sleep(BEHIND_STEP_MS);
        }
    }

    private async once(base: string, served: Served): Promise<'compared' | 'behind' | 'refused'> {
        const at = performance.now();
        const { params, handle, offset } = served;
        const asked: Asked = { offset, handle, at };
        const reply = await exchange(base, `/v1/shape?${query({ ...params, offset, handle })}`);
        this.reread++;
        if (reply.status === 503) return 'refused';
        if (reply.status !== 200 && reply.status !== 409) {
            throw new BrokenPromise(
                `status ${reply.status} for what was served before: ${reply.text.slice(0, 300)}`);
        }
        return this.reply(params, asked, reply) ? 'compared' : 'behind';
    }
}

// The other end of tests/support/preload/iofaults.c: faults in a server's use of its
// storage, of memory and of Postgres, armed, disarmed and counted while it runs. The
// control file is mapped by the server; what is written here is seen there at once.
import { closeSync, existsSync, openSync, readSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { coulombBin, type Env } from './coulomb.js';
import { removeDir, tempDir } from './process.js';

/** In the order of the library's enum. */
export const KINDS = [
    'write', 'sync', 'truncate', 'create', 'open', 'mkdir', 'rename', 'unlink', 'read',
    'memory', 'connect', 'list',
] as const;
export type Kind = (typeof KINDS)[number];

export type Errno = 'EIO' | 'ENOSPC' | 'EROFS' | 'EMFILE' | 'EDQUOT' | 'ENOMEM' | 'ECONNREFUSED' |
    'ETIMEDOUT' | 'EACCES';

export interface Fault {
    kind: Kind;
    /** The call that fails, counted from now; 1 is the next. */
    n?: number;
    /** What happens: an error, SIGKILL, or only the wait. */
    action?: 'fail' | 'kill' | 'wait';
    errno?: Errno;
    /** All later calls too, until the fault is disarmed. */
    sticky?: boolean;
    /** Of a write: half is done, then it fails; or half is done and reported. */
    partial?: 'torn' | 'short';
    waitMs?: number;
    /** Only paths that contain this. */
    path?: string;
}

const MAGIC = 0x31544c5541464f49n;
const RULES = 8;
const CALLS_AT = 8;
const RULES_AT = 64;
const RULE_WORDS = 32;
const SIZE = (RULES_AT + RULES * RULE_WORDS) * 8;
const ACTIONS = { fail: 1n, kill: 2n, wait: 3n };
const PARTIALS = { torn: 1n, short: 2n };
// Linux's numbers, where Node has none.
const EXTRA: Record<string, number> = { EROFS: 30, EDQUOT: 122 };

function errnoOf(name: Errno): number {
    const known = (constants.errno as Record<string, number>)[name] ?? EXTRA[name];
    if (known === undefined) throw new Error(`no number is known for ${name}`);
    return known;
}

export function describeFault(fault: Fault): string {
    const action = fault.action ?? 'fail';
    const words = [`${fault.kind} #${fault.n ?? 1}`];
    if (action === 'fail') words.push(fault.errno ?? 'EIO', fault.sticky ? 'sticky' : 'once');
    else words.push(action);
    if (fault.partial) words.push(fault.partial);
    if (fault.waitMs) words.push(`${fault.waitMs} ms`);
    if (fault.path) words.push(`at ${fault.path}`);
    return words.join(' ');
}

export class IoFaults {
    private readonly dir = tempDir('faults');
    private readonly fd: number;

    constructor() {
        this.fd = openSync(join(this.dir, 'control'), 'w+');
        writeSync(this.fd, Buffer.alloc(SIZE), 0, SIZE, 0);
        this.put(0, MAGIC);
    }

    static get library(): string {
        return join(dirname(coulombBin()), 'tests', 'libiofaults.so');
    }

    static get available(): boolean {
        return existsSync(IoFaults.library);
    }

    /** The environment of a server on that storage and that port of Postgres. */
    env(storageDir: string, port: number): Env {
        if (!IoFaults.available) throw new Error(`there is no ${IoFaults.library}: build the tests`);
        return {
            LD_PRELOAD: IoFaults.library,
            COULOMB_TEST_FAULTS: join(this.dir, 'control'),
            COULOMB_TEST_FAULTS_DIR: storageDir,
            COULOMB_TEST_FAULTS_PORT: String(port),
        };
    }

    /** Arms the rule; there are eight, which act independently. */
    arm(fault: Fault, rule = 0): void {
        const at = RULES_AT + rule * RULE_WORDS;
        this.put(at, 0n);
        const words = Buffer.alloc(RULE_WORDS * 8);
        const set = (word: number, value: bigint): void => {
            words.writeBigInt64LE(value, word * 8);
        };
        set(1, ACTIONS[fault.action ?? 'fail']);
        set(2, BigInt(errnoOf(fault.errno ?? 'EIO')));
        set(3, BigInt(fault.n ?? 1));
        set(4, fault.sticky ? 1n : 0n);
        set(5, fault.partial ? PARTIALS[fault.partial] : 0n);
        set(6, BigInt(Math.round((fault.waitMs ?? 0) * 1000)));
        words.write((fault.path ?? '').slice(0, 63), 8 * 8, 'utf8');
        writeSync(this.fd, words, 8, words.length - 8, at * 8 + 8);
        this.put(at, BigInt(KINDS.indexOf(fault.kind) + 1));
    }

    disarm(rule?: number): void {
        for (let r = 0; r < RULES; r++) {
            if (rule === undefined || rule === r) this.put(RULES_AT + r * RULE_WORDS, 0n);
        }
    }

    /** How often the rule has applied since it was armed. */
    hits(rule = 0): number {
        return Number(this.get(RULES_AT + rule * RULE_WORDS + 7));
    }

    /** The path where it applied first; "" for kinds without. */
    hitPath(rule = 0): string {
        const text = Buffer.alloc(128);
        readSync(this.fd, text, 0, 128, (RULES_AT + rule * RULE_WORDS + 16) * 8);
        return text.toString('utf8').replace(/\0.*$/s, '');
    }

    /** Calls by kind so far. */
    counts(): Record<Kind, number> {
        const counts = {} as Record<Kind, number>;
        KINDS.forEach((kind, i) => (counts[kind] = Number(this.get(CALLS_AT + i))));
        return counts;
    }

    /** Counting begins anew. */
    reset(): void {
        this.disarm();
        KINDS.forEach((_, i) => this.put(CALLS_AT + i, 0n));
    }

    close(): void {
        closeSync(this.fd);
        removeDir(this.dir);
    }

    private put(word: number, value: bigint): void {
        const bytes = Buffer.alloc(8);
        bytes.writeBigInt64LE(value);
        writeSync(this.fd, bytes, 0, 8, word * 8);
    }

    private get(word: number): bigint {
        const bytes = Buffer.alloc(8);
        readSync(this.fd, bytes, 0, 8, word * 8);
        return bytes.readBigInt64LE();
    }
}

// What happens to the server while the oracle's writers and clients work: it is killed, its
// disk fails, Postgres goes away. When the server ends by itself, it has to have said why.
import type { Coulomb } from '../support/coulomb.js';
import { describeFault, type Errno, type Fault, type IoFaults, type Kind } from '../support/iofaults.js';
import type { Cluster } from '../support/postgres.js';
import { Hopeless, sleep } from '../support/process.js';
import type { Database } from '../support/suite.js';
import { lastWords } from '../support/words.js';
import type { Random } from './random.js';

/** The application name of sessions that are left alone. */
export const WRITER = 'writer';

/** Rules of the fault library that the oracle uses. */
const FAULT = 0;
const SLOW = 1;

/** For Postgres's orderly end, and after the end of a fault that holds it up. */
const PATIENCE_MS = 2_000;
const HELD_UP_MS = 15_000;

/** A number up to `most`; small ones as likely as large ones. */
function upTo(random: Random, most: number): number {
    return Math.max(1, Math.round(Math.exp(random.next() * Math.log(most))));
}

function failing(random: Random, kind: Kind, errnos: Errno[], most: number): Fault {
    return { kind, n: upTo(random, most), errno: random.pick(errnos), sticky: random.chance(0.5) };
}

export function randomFault(random: Random): Fault {
    switch (random.int(0, 13)) {
        case 0: case 1: case 2:
            return {
                ...failing(random, 'write', ['ENOSPC', 'EIO', 'EDQUOT', 'EROFS'], 200),
                partial: random.pick([undefined, 'torn', 'short'] as const),
            };
        case 3: case 4:
            return {
                kind: 'write', action: 'kill', n: upTo(random, 200),
                partial: random.chance(0.5) ? 'torn' : undefined,
            };
        case 5:
            return { kind: 'sync', errno: 'EIO', n: upTo(random, 20) };
        case 6:
            return { kind: 'sync', action: 'kill', n: upTo(random, 20) };
        case 7:
            return failing(random, 'create', ['EMFILE', 'ENOSPC', 'EROFS'], 10);
        case 8:
            return failing(random, 'open', ['EMFILE', 'EIO'], 10);
        case 9:
            return failing(random, 'read', ['EIO'], 60);
        case 10:
            return failing(random, random.pick(['mkdir', 'truncate', 'rename', 'unlink'] as const),
                ['EIO', 'ENOSPC', 'EROFS'], 4);
        case 11:
            return {
                kind: random.pick(['create', 'truncate', 'rename', 'unlink'] as const),
                action: 'kill', n: upTo(random, 4),
            };
        default:
            return failing(random, 'connect', ['ECONNREFUSED', 'ETIMEDOUT'], 3);
    }
}

export class Disturber {
    /** What was done, by name. */
    readonly ends: Record<string, number> = {};
    readonly faultsHit: Record<string, number> = {};
    /** This round's; it stays known when it is disarmed, as its consequences take time. */
    private fault: Fault | undefined;
    private armed = false;
    private down = false;

    constructor(
        private readonly server: Coulomb,
        private readonly cluster: Cluster,
        private readonly db: Database,
        private readonly faults: IoFaults,
    ) {}

    /** One round's share. */
    async disturb(random: Random, roundMs: number): Promise<void> {
        this.fault = undefined;
        if (random.chance(0.15)) {
            this.faults.arm({ kind: 'sync', action: 'wait', waitMs: 5, sticky: true }, SLOW);
            this.count(this.faultsHit, 'slow sync');
        }
        await sleep(random.int(0, roundMs * 0.5));
        if (random.chance(0.45)) this.arm(randomFault(random));
        await sleep(random.int(0, roundMs * 0.3));
        await this.event(random);
        if (random.chance(0.5) && !this.server.running) {
            await this.checkEnd();
            if (random.chance(0.5)) this.disarm();
            await this.launch();
        }
    }

    /** Whatever was wrong is over: the server runs, if need be again. */
    async recover(): Promise<void> {
        if (this.server.running && !this.armed) return this.faults.disarm(SLOW);
        await this.checkEnd();
        this.disarm();
        if (!this.server.running) await this.launch();
    }

    describe(): string {
        return this.fault ? `fault ${describeFault(this.fault)}, ${this.faults.hits(FAULT)} hits` : 'no fault';
    }

    private async event(random: Random): Promise<void> {
        const what = random.next();
        if (what < 0.25) {
            await this.endServer('kill -9', () => this.server.kill9());
        } else if (what < 0.33) {
            await this.endServer('SIGTERM', () => this.server.stop());
        } else if (what < 0.36) {
            this.count(this.ends, 'Postgres killed');
            await this.restartPostgres(() => this.cluster.kill());
        } else if (what < 0.39) {
            this.count(this.ends, 'Postgres restarted');
            await this.restartPostgres(() => this.stopPostgres());
        } else if (what < 0.47 || (this.fault?.kind === 'connect' && what < 0.9)) {
            this.count(this.ends, 'backends terminated');
            await this.terminateBackends(random);
        }
    }

    private async restartPostgres(end: () => Promise<void>): Promise<void> {
        this.db.forgetSessions();
        await end();
        await this.cluster.launch();
    }

    /** Postgres's orderly end waits for a follower that says that it has everything: a server
     * whose disk fails doesn't, and then the end of the fault is waited for as well. */
    private async stopPostgres(): Promise<void> {
        const end = this.cluster.stop();
        const inTime = await Promise.race([end.then(() => true), sleep(PATIENCE_MS).then(() => false)]);
        if (inTime) return;
        const fault = this.describe();
        if (!this.armed) throw new Error(`Postgres does not stop in ${PATIENCE_MS} ms, ${fault}`);
        this.count(this.ends, 'Postgres held up by the fault');
        this.disarm();
        const after = await Promise.race([end.then(() => true), sleep(HELD_UP_MS).then(() => false)]);
        if (!after) throw new Error(`Postgres does not stop after ${fault}`);
    }

    /** Those of the server; of them all, or some. */
    private async terminateBackends(random: Random): Promise<void> {
        const share = random.chance(0.5) ? 1 : 0.5;
        await this.db.sql(`select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid()
                and application_name <> '${WRITER}' and random() < ${share}`);
    }

    private async endServer(name: string, end: () => Promise<number | string | void>): Promise<void> {
        if (!this.server.running) return;
        this.count(this.ends, name);
        await end();
        const code = this.server.ended!;
        const orderly = name === 'SIGTERM' ? code === 0 : code === 'SIGKILL';
        this.down = orderly && !(name === 'SIGTERM' && code === 'SIGKILL');
        await this.checkEnd();
        this.down = true;
    }

    private async launch(): Promise<void> {
        this.down = false;
        if (await this.server.launchOrEnd()) return;
        await this.checkEnd();
        this.disarm();
        await this.server.launch();
        this.down = false;
    }

    private arm(fault: Fault): void {
        this.fault = fault;
        this.armed = true;
        this.faults.arm(fault, FAULT);
    }

    private disarm(): void {
        if (this.armed && this.faults.hits(FAULT) > 0) {
            this.count(this.faultsHit, faultName(this.fault!));
        }
        this.armed = false;
        this.faults.disarm();
    }

    /** A server that isn't there was ended by us, or has a reason. */
    private async checkEnd(): Promise<void> {
        if (this.server.running || this.down) return;
        this.down = true;
        const code = this.server.ended!;
        const hit = this.fault !== undefined && this.faults.hits(FAULT) > 0;
        if (code === 'SIGKILL' && hit && this.fault!.action === 'kill') return;
        await sleep(20); // its last words are on the way
        const words = lastWords(this.server.life);
        const where = `${code} with ${this.describe()}: ${words}`;
        const assertion = /^.*assertion failed.*$/m.exec(this.server.life);
        if (assertion) throw new Hopeless(`${assertion[0]}: ${where}`);
        if (typeof code !== 'number') throw new Hopeless(`the server ended by ${where}`);
        if (!hit) throw new Hopeless(`the server ended by itself with ${where}`);
        if (!words) throw new Hopeless(`the server ended by itself without a reason, with ${where}`);
        this.count(this.ends, 'stopped by itself');
    }

    private count(where: Record<string, number>, name: string): void {
        where[name] = (where[name] ?? 0) + 1;
    }
}

function faultName(fault: Fault): string {
    if (fault.action === 'kill') return `killed at ${fault.kind}`;
    return `${fault.kind}${fault.sticky ? ' (lasting)' : ''}`;
}

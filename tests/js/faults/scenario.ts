// One life of a small service with everything in it that touches the disk: shapes small
// and large, updates, a transaction larger than any buffer, a removed shape, checkpoints,
// an orderly restart. Whatever fault is armed, what comes out at the end has to be right.
import { Coulomb, type Params } from '../support/coulomb.js';
import { Follower, type Row } from '../support/follower.js';
import { query } from '../support/http.js';
import { describeFault, IoFaults, type Fault, type Kind } from '../support/iofaults.js';
import type { Cluster } from '../support/postgres.js';
import { Hopeless, sleep, until } from '../support/process.js';
import { Recorder } from '../support/recorder.js';
import { Database, serverEnv } from '../support/suite.js';
import { lastWords } from '../support/words.js';

export interface Run {
    fault?: Fault;
    /** Counting begins with the process, or once it serves. */
    from: 'start' | 'active';
}

export interface Outcome {
    counts: Record<Kind, number>;
    hits: number;
    /** How the server ended by itself: "" when it didn't. */
    ended: string;
    /** The file at which the fault happened; numbers are N. */
    file: string;
}

const TABLES = `
    drop table if exists f_small, f_big, f_gone;
    create table f_small(id int primary key, v text, n int);
    insert into f_small select i, 'v' || i, i from generate_series(1, 20) i;
    create table f_big(id int primary key, v text);
    insert into f_big select i, repeat(md5(i::text), 12) from generate_series(1, 250) i;
    create table f_gone(id int primary key, v text);
    insert into f_gone select i, 'g' || i from generate_series(1, 10) i`;

const COLUMNS: Record<string, string[]> = {
    f_small: ['id', 'v', 'n'], f_big: ['id', 'v'], f_gone: ['id', 'v'],
};

const SHAPES: Params[] = [
    { table: 'f_small' },
    { table: 'f_small', replica: 'full' },
    { table: 'f_small', columns: 'id,n' },
    { table: 'f_big' },
    { table: 'f_gone' },
];
const LATE: Params = { table: 'f_small', columns: 'id,v' };
// Made while the log is already being written.
const SECOND: Params = { table: 'f_big', columns: 'id' };

const SETTLE_MS = 20_000;
/** After a fault that goes on nothing more is waited for than this. */
const FAULTY_MS = 150;
/** From the fault's end until the server says that it is active again. */
const RECOVERY_MS = 15_000;

// What a sentence about a fault of that kind has to hold, besides being there.
const REASONS: Partial<Record<Kind, RegExp>> = {
    memory: /memory|allocat|thread|out of/i,
    connect: /connect/i,
};
const IO_REASON = new RegExp(
    'input/output error|no space left|read-only|too many open files|disk i/o error|' +
    'disk is full|quota|cannot allocate|unable to open database|readonly database|permission denied',
    'i',
);

export class Scenario {
    private readonly faults = new IoFaults();
    private server!: Coulomb;
    private recorder!: Recorder;
    private followers: Follower[] = [];
    private run_!: Run;
    private armed = false;
    /** A fault that is over has had its effect, which may be that the server is ending. */
    private mayEnd = false;
    private ended = '';
    /** What the scenario is at, for messages. */
    private step = '';
    private runs = 0;

    private constructor(private readonly cluster: Cluster, private readonly db: Database) {}

    static async create(cluster: Cluster): Promise<Scenario> {
        return new Scenario(cluster, await Database.create('faults', cluster));
    }

    async close(): Promise<void> {
        await this.db.drop();
        this.faults.close();
    }

    /** Runs it; throws when anything is not as promised. */
    async run(run: Run): Promise<Outcome> {
        this.run_ = run;
        this.followers = [];
        this.recorder = new Recorder();
        this.ended = '';
        this.mayEnd = false;
        this.faults.reset();
        await this.db.sql(TABLES);
        this.server = new Coulomb(serverEnv(this.db, {
            ELECTRIC_REPLICATION_STREAM_ID: `${this.db.streamId}_${++this.runs}`,
            ELECTRIC_SHAPE_CHUNK_BYTES_THRESHOLD: '30000',
            ELECTRIC_LONG_POLL_TIMEOUT: '1000',
        }));
        Object.assign(this.server.env, this.faults.env(this.server.storageDir, this.cluster.port));
        try {
            await this.first();
            await this.second();
            const outcome = this.outcome();
            await this.verdict();
            return outcome;
        } catch (error) {
            const what = run.fault ? describeFault(run.fault) : 'no fault';
            throw new Error(
                `${what} from ${run.from}, step "${this.step}", ${this.faults.hits()} hits ` +
                    `(${this.faults.hitPath()}), ended: ${this.ended || 'no'}: ` +
                    `${(error as Error).message}\n--- server log\n${this.server.tail(25)}`,
                { cause: error },
            );
        } finally {
            await this.clean();
        }
    }

    private outcome(): Outcome {
        const path = this.faults.hitPath().replace(this.server.storageDir, '');
        return {
            counts: this.faults.counts(),
            hits: this.faults.hits(),
            ended: this.ended.replaceAll(this.server.storageDir, 'DIR'),
            file: path.replace(/\d+/g, 'N') || (this.faults.hitPath() ? '/' : ''),
        };
    }

    private async clean(): Promise<void> {
        this.disarm();
        for (const follower of this.followers) await follower.stop();
        await this.server.close();
        const slot = `electric_slot_${this.server.env.ELECTRIC_REPLICATION_STREAM_ID}`;
        await this.db.sql(`
            select pg_terminate_backend(active_pid, 5000) from pg_replication_slots
                where slot_name = '${slot}' and active_pid is not null;
            select pg_drop_replication_slot(slot_name) from pg_replication_slots
                where slot_name = '${slot}' and active_pid is null;
            drop publication if exists
                electric_publication_${this.server.env.ELECTRIC_REPLICATION_STREAM_ID}`);
    }

    // --- the steps ---

    private async first(): Promise<void> {
        this.step = 'start';
        if (this.run_.from === 'start') this.arm();
        await this.launch();
        if (this.run_.from === 'active') {
            await this.server.active();
            this.faults.reset();
            this.arm();
        }
        this.step = 'first shapes';
        for (const params of SHAPES) this.follow(params);
        await this.settle();
        this.step = 'updates';
        for (let n = 1; n <= 4; n++) {
            await this.db.sql(`update f_small set v = 'u${n}', n = n + 1 where id % 4 = ${n - 1}`);
            await this.db.sql(`update f_gone set v = 'u${n}' where id = ${n}`);
            if (n % 2 === 0) await this.settle();
        }
        this.step = 'large transaction';
        // Larger than a buffer, over many chunks; and small transactions right behind it.
        await this.db.sql(`
            insert into f_big select i, repeat(md5(i::text), 130)
                from generate_series(1001, 1300) i`);
        await this.db.sql("update f_small set v = 'behind' where id = 7");
        await this.settle();
        this.step = 'a shape of a written log';
        this.follow(SECOND);
        await this.db.sql('delete from f_big where id between 100 and 130');
        await this.settle();
        this.step = 'a removed shape';
        await this.removeShape();
        await this.db.sql("insert into f_gone values (99, 'after the removal')");
        await this.settle();
    }

    private async second(): Promise<void> {
        await this.afterEnd();
        this.step = 'orderly stop';
        if (this.server.running) {
            const code = await this.server.stop();
            if (code === 'SIGKILL' && !this.wasKilled()) throw new Error('it did not stop at SIGTERM');
            if (code !== 0) await this.judgeEnd(code);
        }
        this.step = 'restart';
        await this.db.sql("update f_small set v = 'while down' where id = 3");
        await this.launch();
        this.follow(LATE);
        await this.db.sql("update f_small set id = id + 100, v = 'moved' where id > 15");
        await this.db.sql("update f_big set v = 'short' where id = 1001");
        await this.settle();
        await this.db.sql('delete from f_small where id < 4');
        await this.settle();
    }

    /** The fault is over: everything has to be right, and to stay so. */
    private async verdict(): Promise<void> {
        this.step = 'the fault is over';
        this.checkFailures();
        await this.afterEnd();
        this.disarm();
        if (!this.server.running) await this.launch();
        await this.db.sql("insert into f_small values (500, 'the end', 0)");
        await until('the server to be active after the fault', async () => {
            await this.afterEnd();
            return (await this.server.get('/v1/health', { timeoutMs: 5_000 })).status === 200;
        }, RECOVERY_MS, 10);
        await this.settle();
        this.step = 'reading again';
        await this.rereadAll();
        this.mayEnd = false;
        this.step = 'after a crash';
        await this.server.kill9();
        await this.launch();
        await this.db.sql("insert into f_small values (501, 'after a crash', 0)");
        await this.settle();
        await this.rereadAll();
        const code = await this.server.stop();
        if (code !== 0) throw new Error(`without a fault it ended with ${code} at SIGTERM`);
    }

    private async rereadAll(): Promise<void> {
        for (const served of this.recorder.promised()) {
            await this.recorder.again(this.server.url, served);
        }
    }

    private async removeShape(): Promise<void> {
        const handle = this.followers[4].handle;
        if (handle === undefined) return;
        await this.server.get(`/v1/shape?${query({ table: 'f_gone', handle })}`, {
            method: 'DELETE', timeoutMs: 5000,
        }).catch(() => undefined);
    }

    // --- fault and server ---

    private arm(): void {
        if (!this.run_.fault) return;
        this.faults.arm(this.run_.fault);
        this.armed = true;
    }

    private disarm(): void {
        this.faults.disarm();
        this.mayEnd = this.armed && this.faults.hits() > 0;
        this.armed = false;
    }

    private wasKilled(): boolean {
        return this.run_.fault?.action === 'kill' && this.faults.hits() > 0;
    }

    private async launch(): Promise<void> {
        if (await this.server.launchOrEnd()) return;
        if (!this.armed && !this.mayEnd) {
            throw new Error(`it ended with ${this.server.ended} at its start, without a fault`);
        }
        await this.afterEnd();
    }

    /** A server that ended by itself has to have a reason; then it is started without fault. */
    private async afterEnd(): Promise<void> {
        if (this.server.running) return;
        await this.judgeEnd(this.server.ended!);
        await this.server.launch();
    }

    private async judgeEnd(code: number | string): Promise<void> {
        if (!this.armed && !this.mayEnd) throw new Hopeless(`it ended with ${code} without a fault`);
        const hits = this.faults.hits();
        this.disarm();
        this.mayEnd = false;
        await sleep(20); // its last words are still on the way
        const life = this.server.life;
        this.ended = `${code}`;
        if (this.wasKilled() && code === 'SIGKILL') return;
        const assertion = /^.*assertion failed.*$/m.exec(life);
        if (assertion) throw new Hopeless(assertion[0]);
        if (typeof code !== 'number') throw new Hopeless(`it ended by ${code}`);
        if (code === 0) throw new Hopeless('it ended with 0 by itself');
        if (hits === 0) throw new Hopeless(`it ended with ${code} before the fault`);
        const sentence = lastWords(life);
        this.ended = `${code}: ${sentence}`;
        const reason = REASONS[this.run_.fault!.kind] ?? IO_REASON;
        if (!sentence) throw new Hopeless(`it ended with ${code} and no sentence`);
        if (!reason.test(sentence)) throw new Hopeless(`its sentence gives no reason: ${sentence}`);
    }

    // --- clients ---

    private follow(params: Params): void {
        this.followers.push(new Follower(() => this.server.url, params, {
            recorder: this.recorder, keyColumns: ['id'], failing: true,
        }).start());
    }

    private checkFailures(): void {
        for (const follower of this.followers) if (follower.failure) throw follower.failure;
    }

    /** Waits until all have what SELECT gives; while a fault lasts, for a moment only. */
    private async settle(): Promise<void> {
        const truth = new Map<Follower, string>();
        for (const follower of this.followers) {
            const names = namesOf(follower);
            const rows = await this.db.sql(`select ${names.join(', ')} from ${follower.params.table}`);
            truth.set(follower, canonical(rows, names));
        }
        const start = Date.now();
        for (;;) {
            this.checkFailures();
            const behind = this.followers.filter((f) => !isAt(f, truth.get(f)!));
            if (behind.length === 0) return;
            const faulty = this.armed && this.faults.hits() > 0;
            const sticky = faulty && this.run_.fault!.sticky === true;
            if (!this.server.running) {
                await this.afterEnd();
            } else if (Date.now() - start > (sticky ? FAULTY_MS : SETTLE_MS)) {
                if (sticky) return;
                const f = behind[0];
                throw new Error(
                    `${behind.length} clients are not at SELECT after ${SETTLE_MS} ms; the first, ` +
                        `${JSON.stringify(f.params)}, is ${f.upToDate ? '' : 'not '}up to date at ` +
                        `${f.offset} of ${f.handle} and ${difference(f, truth.get(f)!)}`);
            }
            await sleep(5);
        }
    }
}

function canonical(rows: Iterable<Row>, names: string[]): string {
    const texts: string[] = [];
    for (const row of rows) texts.push(JSON.stringify(names.map((n) => row[n] ?? null)));
    return texts.sort().join('\n');
}

/** How a client's rows differ from the truth, in short. */
function difference(follower: Follower, truth: string): string {
    const wanted = truth.split('\n');
    const seen = canonical(follower.rows.values(), namesOf(follower)).split('\n');
    const show = (rows: string[]): string =>
        `${rows.length} (${rows.slice(0, 4).map((row) => row.slice(0, 60)).join(' ')})`;
    return `misses ${show(wanted.filter((row) => !seen.includes(row)))}, ` +
        `has ${show(seen.filter((row) => !wanted.includes(row)))} too many`;
}

function namesOf({ params: { table, columns } }: Follower): string[] {
    return columns ? String(columns).split(',') : COLUMNS[String(table)];
}

function isAt(follower: Follower, truth: string): boolean {
    if (!follower.upToDate) return false;
    return canonical(follower.rows.values(), namesOf(follower)) === truth;
}

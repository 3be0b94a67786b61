// Replays a file of recorded exchanges: each scenario is one test, run in order on one
// database, since scenarios share tables.
import { afterAll, beforeAll, describe, inject, test } from 'vitest';
import { Coulomb, type Env } from '../support/coulomb.js';
import { OpenResponse, exchange } from '../support/http.js';
import { connect } from '../support/postgres.js';
import { sleep, until } from '../support/process.js';
import { Database, serverEnv } from '../support/suite.js';
import { differenceOf, type Difference } from './differences.js';
import {
    Bindings, checkInvariants, fill, matchAnswer, Mismatch, type Answer,
} from './match.js';
import {
    expectedOf, goldenFolder, loadRecording,
    type Expected, type Recording, type Scenario, type Step,
} from './recording.js';

/** How long a change may take from commit to log; the recordings waited 0.4 s. */
const SETTLE_MS = Number(process.env.GOLDEN_SETTLE_MS ?? 150);

export interface ReplayOptions {
    /** Scenarios of their own tables that take long: started first, awaited in their turn. */
    early?: string[];
    /** Restricts the file to these scenarios. */
    only?: string[];
    env?: Env;
}

/** State of one file's replay. */
export class Replay {
    db!: Database;
    server!: Coulomb;
    readonly values = new Map<string, string>();
    private readonly done = new Set<string>();
    private readonly early = new Map<string, Promise<void>>();
    readonly servers: Coulomb[] = [];

    /** Where each recorded handle appears first. */
    private readonly firstSeen = new Map<string, Step>();

    constructor(readonly recording: Recording) {
        for (const step of recording.scenarios.flatMap((s) => s.steps)) {
            const handle = step.response?.headers['electric-handle'];
            if (handle && !this.firstSeen.has(handle)) this.firstSeen.set(handle, step);
        }
    }

    /** Whether the recorded answer came from a shape that was not seen before. */
    isNewShape(step: Step): boolean {
        return this.firstSeen.get(step.response?.headers['electric-handle'] ?? '') === step;
    }

    async prepare(env: Env): Promise<void> {
        this.db = await Database.create(`golden_${this.recording.group}`, inject('cluster'));
        for (const sql of this.recording.setup_sql) await this.sql(this.localSql(sql));
        this.server = await this.another(env);
        await this.server.active();
    }

    async another(env: Env = {}): Promise<Coulomb> {
        const own = serverEnv(this.db, { ...this.recording.server_settings, ...env });
        // The recordings name every setting that differs from the defaults.
        for (const name of ['ELECTRIC_ENABLE_INTEGRATION_TESTING', 'ELECTRIC_LONG_POLL_TIMEOUT']) {
            if (!(name in this.recording.server_settings) && !(name in env)) delete own[name];
        }
        const server = new Coulomb(own);
        this.servers.push(server);
        await server.launch();
        return server;
    }

    async close(): Promise<void> {
        for (const server of this.servers) await server.close();
        if (this.db) await this.db.drop();
    }

    /** Runs a recorded SQL step as the recorder did: a session of its own, one transaction
     * per statement. */
    async sql(text: string): Promise<void> {
        const session = await connect(this.db.cluster, this.db.name);
        try {
            for (const statement of statementsOf(text)) await session.query(statement);
        } finally {
            await session.end();
        }
    }

    /** Names that the recorded SQL uses for its own database. */
    localSql(sql: string): string {
        return sql
            .replaceAll(/\balter database \w+/g, `alter database ${this.db.name}`)
            .replaceAll(/\belectric_publication_\w+/g, this.db.publication);
    }

    /** The recorded publication's name in an expected body. */
    localNames(body: unknown): unknown {
        const text = JSON.stringify(body);
        return JSON.parse(text.replaceAll(/\belectric_publication_\w+/g, this.db.publication));
    }

    /** Brings the tables into the state that earlier scenarios leave behind. */
    async catchUp(before: Scenario): Promise<void> {
        for (const scenario of this.recording.scenarios) {
            if (scenario === before) break;
            if (!this.done.has(scenario.name)) await this.onlySql(scenario);
        }
    }

    async onlySql(scenario: Scenario): Promise<void> {
        this.done.add(scenario.name);
        for (const step of scenario.steps) {
            const statements = [step.sql, ...(step.during ?? []).map((d) => d.sql)];
            for (const sql of statements) {
                if (sql) await this.sql(this.localSql(sql));
            }
            const other = /^in another session: begin; (.*); wait/.exec(step.note ?? '');
            if (other) await this.db.sql(other[1]);
        }
    }

    startEarly(scenario: Scenario, difference?: Difference): void {
        this.done.add(scenario.name);
        const run = new ScenarioRun(this, scenario, difference).play();
        run.catch(() => undefined);
        this.early.set(scenario.name, run);
    }

    async run(scenario: Scenario, difference?: Difference): Promise<void> {
        const started = this.early.get(scenario.name);
        if (started) return await started;
        await this.catchUp(scenario);
        this.done.add(scenario.name);
        await new ScenarioRun(this, scenario, difference).play();
    }
}

class ScenarioRun {
    private readonly bindings: Bindings;
    private readonly waiting: Promise<void>[] = [];

    constructor(
        private readonly replay: Replay,
        private readonly scenario: Scenario,
        private readonly difference: Difference | undefined,
    ) {
        this.bindings = new Bindings(replay.values);
        for (const step of scenario.steps) this.learn(step);
    }

    private learn(step: Step): void {
        if (!step.request) return;
        const { request, response } = step.normalised ?? {};
        if (request?.path) this.bindings.learn(request.path, step.request.path);
        if (request?.headers) this.bindings.learn(request.headers, step.request.headers);
        if (response?.headers) this.bindings.learn(response.headers, step.response!.headers);
        if (response?.body) this.bindings.learn(response.body, step.response!.body);
    }

    async play(): Promise<void> {
        const { steps } = this.scenario;
        for (let i = 0; i < steps.length; i++) {
            const step = steps[i];
            if (this.difference?.drop?.(step, i)) continue;
            try {
                await this.step(step, i);
            } catch (error) {
                const what = step.request
                    ? `${step.request.method} ${step.normalised?.request?.path ?? step.request.path}`
                    : step.sql ?? step.note;
                throw new Error(`step ${i}, ${what}: ${(error as Error).message}`);
            }
        }
        await Promise.all(this.waiting);
    }

    private async step(step: Step, i: number): Promise<void> {
        const settings = this.difference;
        if (settings?.join?.includes(i)) await Promise.all(this.waiting.splice(0));
        if (settings?.before?.[i]) await settings.before[i](this.replay);
        if (step.sql !== undefined) {
            await this.replay.sql(this.replay.localSql(step.sql));
            await sleep(SETTLE_MS);
        } else if (step.note !== undefined) {
            await this.note(step.note);
        } else if (settings?.background?.includes(i)) {
            const pending = this.request(step, i);
            pending.catch(() => undefined);
            this.waiting.push(pending);
            await sleep(200);
        } else {
            await this.request(step, i);
        }
    }

    private async note(note: string): Promise<void> {
        const wait = /^wait (\d+) s$/.exec(note);
        const other = /^in another session: begin; (.*); wait ([\d.]+) s; commit$/.exec(note);
        const restart = /^server restarted .*; (insert .*) ran in between$/.exec(note);
        if (wait) {
            await sleep(2_500);
        } else if (other) {
            const session = await this.replay.db.session();
            await session.query(`begin; ${other[1]}`);
            setTimeout(() => void session.query('commit'), Number(other[2]) * 1000);
        } else if (restart) {
            await this.replay.server.stop();
            await this.replay.db.sql(this.replay.localSql(restart[1]));
            await this.replay.server.launch();
            await this.replay.server.active();
            await this.caughtUp();
        } else {
            throw new Error(`no way to do: ${note}`);
        }
    }

    // An active server may still have to read what happened while it was away.
    private async caughtUp(): Promise<void> {
        const { db } = this.replay;
        const [{ lsn }] = await db.sql('select pg_current_wal_lsn()::text as lsn');
        await until('the stream to be caught up', async () => {
            const [{ sent }] = await db.sql(
                `select bool_or(r.sent_lsn >= '${lsn}') as sent from pg_stat_replication r
                 join pg_replication_slots s on s.active_pid = r.pid
                 where s.database = current_database()`,
            );
            return sent === true || sent === 't';
        });
        await sleep(300);
    }

    private async request(step: Step, i: number): Promise<void> {
        const expected = expectedOf(this.replay.recording, step);
        if (expected.body !== undefined) expected.body = this.replay.localNames(expected.body);
        this.difference?.patch?.(expected, step, i, this.scenario);
        // An answer that names the request's origin tells shared caches so.
        if (expected.headers.vary && step.request!.headers?.origin) {
            expected.headers.vary += ', origin';
        }
        await this.deleteBefore(step, i);
        const since = this.scenario.steps[i - 1];
        const mayLag = since && !since.request;
        const end = Date.now() + 8_000;
        for (;;) {
            const answer = await this.send(step, expected);
            const trial = this.bindings.copy();
            try {
                matchAnswer(expected, answer, step.request!.method === 'HEAD', trial);
                checkInvariants(answer, /[?&]live=true/.test(step.request!.path));
                this.bindings.adopt(trial);
                return;
            } catch (error) {
                if (this.difference?.eager?.includes(i) && error instanceof Mismatch) {
                    const first = /[?&]offset=-1(&|$)/.test(step.request!.path);
                    if ([400, 409].includes(answer.status) || (first && answer.status === 200)) return;
                }
                // The change may still be on its way; nothing else excuses a retry.
                const lagging = mayLag && error instanceof Mismatch && Date.now() < end &&
                    !expected.sse && !/[?&]live=/.test(step.request!.path);
                if (!lagging) throw error;
                await sleep(250);
            }
        }
    }

    /** The recorder deleted the shape where a first read is followed by reading on. */
    private async deleteBefore(step: Step, i: number): Promise<void> {
        if (!this.replay.recording.shapes_deleted_before_scenario) return;
        const next = this.scenario.steps.slice(i + 1).find((s) => s.request);
        const { method, path } = step.request!;
        if (method !== 'GET' || !/[?&]offset=-1(&|$)/.test(path) || !next) return;
        const definition = definitionOf(path);
        const follow = next.request!.path;
        if (!/[?&]offset=0_0(&|$)/.test(follow)) return;
        if (definitionOf(follow) !== definition) return;
        if (!this.replay.isNewShape(step)) return;
        await exchange(this.replay.server.url, `/v1/shape?${definition}`, { method: 'DELETE' });
    }

    // Values that only this run can supply, at the moment of the request.
    private async supply(template: string): Promise<void> {
        for (const [name, value] of Object.entries(this.difference?.values ?? {})) {
            if (!template.includes(`<${name}>`) || this.bindings.get(name)) continue;
            this.bindings.bind(name, await value(this.replay), false, 'request');
        }
    }

    private fillPath(template: string): string {
        return fill(template, (name) => this.valueFor(name));
    }

    private valueFor(name: string): string {
        const known = this.bindings.get(name);
        if (known !== undefined) return known;
        const recorded = this.bindings.recorded.get(name);
        if (recorded === undefined) throw new Error(`nothing known about <${name}>`);
        const value = this.replay.values.get(recorded) ?? this.neighbour(recorded) ?? recorded;
        this.bindings.bind(name, value, false, 'request');
        return value;
    }

    /** A recorded position just beside a known one is moved along with it. */
    private neighbour(recorded: string): string | undefined {
        if (!/^\d+$/.test(recorded)) return undefined;
        for (const [name, raw] of this.bindings.recorded) {
            const known = this.bindings.hard.get(name);
            if (!name.startsWith('lsn') || known === undefined) continue;
            const distance = BigInt(recorded) - BigInt(raw);
            if (distance >= -16n && distance <= 16n) return String(BigInt(known) + distance);
        }
        return undefined;
    }

    private async send(step: Step, expected: Expected): Promise<Answer> {
        const { request } = step;
        await this.supply(step.normalised?.request?.path ?? '');
        const path = this.fillPath(step.normalised?.request?.path ?? request!.path);
        const headers: Record<string, string> = {};
        const templates = step.normalised?.request?.headers ?? request!.headers ?? {};
        for (const [name, value] of Object.entries(templates)) headers[name] = this.fillPath(value);
        const options = { method: request!.method, headers, body: bodyOf(request!.body) };
        const actions = this.actions(step);
        const started = performance.now();
        const answer = expected.sse
            ? await this.stream(path, options, expected, actions)
            : await this.plain(path, options);
        await actions;
        checkDuration(step, expected, performance.now() - started);
        return answer;
    }

    private async plain(path: string, options: object): Promise<Answer> {
        const reply = await exchange(this.replay.server.url, path, options);
        const headers = { ...reply.headers };
        return { status: reply.status, headers, text: reply.text };
    }

    private async actions(step: Step): Promise<void> {
        for (const action of step.during ?? []) {
            await sleep(action.after_ms);
            if (action.sql) {
                await this.replay.sql(this.replay.localSql(action.sql));
            }
            if (action.also) {
                const [method, path] = action.also.split(' ');
                await exchange(this.replay.server.url, path, { method });
            }
        }
    }

    private async stream(
        path: string, options: object, expected: Expected, actions: Promise<void>,
    ): Promise<Answer> {
        const stream = new OpenResponse(this.replay.server.url, path, options);
        await stream.opened;
        await actions;
        const limit = expected.sse!.some((e) => typeof e === 'string') ? 75_000 : 8_000;
        const end = Date.now() + limit;
        const complete = (): boolean =>
            stream.closedAtMs !== null ||
            (!expected.closedByServer && stream.events.length >= expected.sse!.length);
        while (!complete() && Date.now() < end) await sleep(20);
        if (!expected.closedByServer) await sleep(300);
        const answer = {
            status: stream.status,
            headers: stream.headers,
            text: stream.text,
            events: stream.events.map((e) => JSON.parse(JSON.stringify(e))),
            closedByServer: stream.closedAtMs !== null,
        };
        stream.leave();
        return answer;
    }
}

/** Statements of a text, split at semicolons outside of quotes. */
export function statementsOf(text: string): string[] {
    const parts = text.match(/(?:\bE'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$\$.*?\$\$|[^;'"$]|\$)+/gs) ?? [];
    return parts.filter((part) => part.trim() !== '');
}

/** The part of a query that names the shape. */
function definitionOf(path: string): string {
    return path
        .slice(path.indexOf('?') + 1)
        .split('&')
        .filter((part) => !/^(offset|handle|live|live_sse|experimental_live_sse|cursor)=/.test(part))
        .sort()
        .join('&');
}

function bodyOf(body: unknown): unknown {
    if (typeof body === 'string' && body.startsWith('<JSON object whose member where')) {
        return JSON.stringify({ where: 'x'.repeat(8_100_000) });
    }
    return body;
}

/** Only the order of magnitude: at once, or held for about as long as recorded. */
function checkDuration(step: Step, expected: Expected, tookMs: number): void {
    const recorded = expected.tookMs;
    if (recorded === undefined || step.response!.writes) return;
    if (recorded >= 900 && tookMs < recorded * 0.5) {
        throw new Mismatch(`answered after ${Math.round(tookMs)} ms, recorded ${recorded} ms`);
    }
    if (tookMs > recorded * 3 + 5_000) {
        throw new Mismatch(`answered after ${Math.round(tookMs)} ms, recorded ${recorded} ms`);
    }
}

/** Registers the tests of one file of recordings. */
export function replayFile(file: string, options: ReplayOptions = {}): void {
    const group = file.replace('.json', '');
    if (!goldenFolder()) {
        describe(`recorded exchanges: ${group}`, () => {
            test.skip('the recordings are absent: set COULOMB_GOLDEN or put them in ../shared', () => undefined);
        });
        return;
    }
    const recording = loadRecording(file);
    const replay = new Replay(recording);
    describe(`recorded exchanges: ${group}`, () => {
        beforeAll(async () => {
            await replay.prepare(options.env ?? {});
            for (const scenario of recording.scenarios) {
                if (options.early?.includes(scenario.name)) {
                    replay.startEarly(scenario, differenceOf(group, scenario.name));
                }
            }
        });
        afterAll(() => replay.close());
        for (const scenario of recording.scenarios) {
            if (options.only && !options.only.includes(scenario.name)) continue;
            registerScenario(replay, group, scenario);
        }
    });
}

export function registerScenario(replay: Replay, group: string, scenario: Scenario): void {
    const difference = differenceOf(group, scenario.name);
    const name = scenario.about ? `${scenario.name}: ${scenario.about}` : scenario.name;
    if (difference?.kind === 'later') {
        test.skip(`${name} [later: ${difference.reason}]`, () => undefined);
        return;
    }
    const suffix = difference ? ` [${difference.kind}: ${difference.reason}]` : '';
    test(`${name}${suffix}`, async ({ skip }) => {
        const [{ v }] = await replay.db.sql("select current_setting('server_version_num') as v");
        if (Number(v) >= 10_000 * (difference?.unlikeFrom ?? Infinity)) {
            skip(`Postgres ${difference!.unlikeFrom} answers otherwise`);
        }
        try {
            await replay.run(scenario, difference);
        } catch (error) {
            const log = replay.server.tail(15);
            throw new Error(`${(error as Error).message}\n--- server log\n${log}`);
        }
    }, 150_000);
}

// A `coulomb serve` process under test: started with upstream's environment names, waited
// for until its log says that it listens, stopped, killed and restarted at will on the same
// storage and port.
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
    exchange, OpenResponse, query, type Reply, type RequestOptions,
} from './http.js';
import { exitOf, Hopeless, removeDir, tempDir, trackPid, until, untrackPid } from './process.js';

export type Env = Record<string, string>;
export type Params = Record<string, string | number | boolean | undefined>;

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/** The binary under test. */
export function coulombBin(): string {
    const named = process.env.COULOMB_BIN;
    if (named) return named;
    const builds = join(ROOT, 'build');
    const found = existsSync(builds)
        ? readdirSync(builds)
              .map((name) => join(builds, name, 'coulomb'))
              .filter((path) => existsSync(path))
              .sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)
        : [];
    if (found.length === 0) throw new Error('no coulomb binary: build it or set COULOMB_BIN');
    return found[0];
}

const MAX_LOG = 4_000_000;

export class Coulomb {
    readonly env: Env;
    readonly storageDir: string;
    private readonly ownsStorage: boolean;
    port = 0;
    /** Everything the process wrote, over all its lives. */
    log = '';
    /** What the last process wrote. */
    life = '';
    private child: ChildProcess | undefined;
    private latest: ChildProcess | undefined;
    private lastEnd: number | string | undefined;

    /** `env` holds the settings; storage, port and insecure mode have defaults. */
    constructor(env: Env) {
        this.ownsStorage = env.ELECTRIC_STORAGE_DIR === undefined;
        this.storageDir = env.ELECTRIC_STORAGE_DIR ?? tempDir('storage');
        this.env = { COULOMB_LISTEN: '127.0.0.1', ...env, ELECTRIC_STORAGE_DIR: this.storageDir };
        if (env.ELECTRIC_SECRET === undefined) this.env.ELECTRIC_INSECURE ??= 'true';
    }

    static async start(env: Env): Promise<Coulomb> {
        const server = new Coulomb(env);
        await server.launch();
        return server;
    }

    get url(): string {
        return `http://127.0.0.1:${this.port}`;
    }

    get shapeUrl(): string {
        return `${this.url}/v1/shape`;
    }

    get running(): boolean {
        return this.child !== undefined && this.child.exitCode === null &&
            this.child.signalCode === null;
    }

    /** How the last process ended: its exit code or a signal's name; undefined while it runs. */
    get ended(): number | string | undefined {
        return this.child?.exitCode ?? this.child?.signalCode ?? this.lastEnd;
    }

    get pid(): number {
        return this.child?.pid ?? 0;
    }

    /** Starts the process and waits until it listens. */
    async launch(extra: Env = {}): Promise<void> {
        if (this.running) throw new Error('the server runs already');
        const inherited: Env = {};
        for (const name of ['PATH', 'HOME', 'TMPDIR', 'ASAN_OPTIONS', 'UBSAN_OPTIONS',
            'LSAN_OPTIONS', 'TSAN_OPTIONS']) {
            const value = process.env[name];
            if (value !== undefined) inherited[name] = value;
        }
        if (this.child) untrackPid(this.child.pid!);
        this.lastEnd = undefined;
        this.life = '';
        const child = spawn(coulombBin(), ['serve'], {
            env: { ...inherited, ...this.env, ELECTRIC_PORT: String(this.port), ...extra },
            stdio: ['ignore', 'pipe', 'pipe'],
        });
        this.child = this.latest = child;
        trackPid(child.pid!);
        const take = (text: string): void => {
            this.log = (this.log + text).slice(-MAX_LOG);
            if (this.latest === child) this.life = (this.life + text).slice(-MAX_LOG);
        };
        for (const stream of [child.stdout!, child.stderr!]) {
            stream.setEncoding('utf8');
            stream.on('data', take);
        }
        const line = await until('the server to listen', () => {
            const found = /event=http\.listening\b[^\n]*?\bport=(\d+)/.exec(this.life);
            if (!found && !this.running) {
                throw new Hopeless(`the server ended with ${child.exitCode ?? child.signalCode}`);
            }
            return found;
        }, 20_000, 10).catch((error) => {
            throw new Error(`${String(error)}\n${this.tail()}`);
        });
        this.port = Number(line[1]);
    }

    /** As launch; false when the process ended before it listened. */
    async launchOrEnd(): Promise<boolean> {
        try {
            await this.launch();
            return true;
        } catch (error) {
            if (this.running) throw error;
            return false;
        }
    }

    /** Starts a process that is expected to end by itself; gives its exit code. */
    async launchExpectingExit(extra: Env = {}, timeoutMs = 15_000): Promise<number | string> {
        const child = spawn(coulombBin(), ['serve'], {
            env: { PATH: process.env.PATH ?? '', ...this.env, ELECTRIC_PORT: '0', ...extra },
            stdio: ['ignore', 'pipe', 'pipe'],
        });
        trackPid(child.pid!);
        for (const stream of [child.stdout!, child.stderr!]) {
            stream.setEncoding('utf8');
            stream.on('data', (text: string) => (this.log += text));
        }
        const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
        const code = await exitOf(child);
        clearTimeout(timer);
        untrackPid(child.pid!);
        return code;
    }

    /** Waits until the service reports itself active. */
    async active(timeoutMs = 20_000): Promise<void> {
        await until('the server to be active', async () => {
            const reply = await this.get('/v1/health', { timeoutMs: 5_000 });
            return reply.status === 200;
        }, timeoutMs).catch((error) => {
            throw new Error(`${String(error)}\n${this.tail()}`);
        });
    }

    private async end(signal: NodeJS.Signals, timeoutMs: number): Promise<number | string> {
        const child = this.child;
        if (!child) return 'not running';
        child.kill(signal);
        const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
        const code = await exitOf(child);
        clearTimeout(timer);
        untrackPid(child.pid!);
        this.child = undefined;
        this.lastEnd = code;
        return code;
    }

    /** Orderly stop; gives the exit code (a signal's name if it had to be killed). */
    stop(): Promise<number | string> {
        return this.end('SIGTERM', 10_000);
    }

    async kill9(): Promise<void> {
        await this.end('SIGKILL', 10_000);
    }

    async restart(): Promise<void> {
        await this.stop();
        await this.launch();
    }

    /** Stops the process and removes its storage. */
    async close(): Promise<void> {
        await this.stop();
        if (this.ownsStorage) removeDir(this.storageDir);
    }

    /** What `coulomb status` says of it. */
    status(): Promise<string> {
        return new Promise((done) => {
            execFile(coulombBin(), ['status', '--url', this.url], { env: {} }, (_, out, err) =>
                done(out + err));
        });
    }

    /** All that health tells. */
    async health(): Promise<{ status: string; lag_ms: number; detail?: string }> {
        return (await this.get('/v1/health?verbose=true', { timeoutMs: 5_000 })).json();
    }

    /** The end of the log, for messages. */
    tail(lines = 40): string {
        return this.log.split('\n').slice(-lines).join('\n');
    }

    get(path: string, options: RequestOptions = {}): Promise<Reply> {
        return exchange(this.url, path, options);
    }

    /** A request for a shape by its query parameters. */
    shape(params: Params, options: RequestOptions = {}): Promise<Reply> {
        return exchange(this.url, `/v1/shape?${query(params)}`, options);
    }

    open(params: Params, options: RequestOptions = {}): OpenResponse {
        return new OpenResponse(this.url, `/v1/shape?${query(params)}`, options);
    }
}

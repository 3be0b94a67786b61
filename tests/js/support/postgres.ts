// A throwaway Postgres cluster in a temporary folder: loopback only, random port, logical
// replication on. As root it runs under the account `postgres`, since the server refuses
// to run as root.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import {
    chmodSync, chownSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { exitOf, freePort, removeDir, tempDir, trackPid, until, untrackPid } from './process.js';

const BIN_DIRS = ['15', '16', '17', '18', '14'].map((v) => `/usr/lib/postgresql/${v}/bin`);

export interface ClusterOptions {
    /** Real durability; off by default, for speed. */
    fsync?: boolean;
    /** Further settings, as for postgresql.conf. */
    settings?: Record<string, string | number>;
}

/** What another process needs in order to use a running cluster. */
export interface ClusterAddress {
    host: string;
    port: number;
    user: string;
}

function binDir(): string {
    const dir = process.env.COULOMB_PG_BIN ?? BIN_DIRS.find((d) => existsSync(join(d, 'postgres')));
    if (!dir) throw new Error('no Postgres server found: install postgresql-15');
    return dir;
}

/** The account that runs the cluster: `postgres` for root, else the caller. */
function account(): { uid?: number; gid?: number } {
    if (process.getuid?.() !== 0) return {};
    const line = readFileSync('/etc/passwd', 'utf8')
        .split('\n')
        .find((l) => l.startsWith('postgres:'));
    if (!line) throw new Error('running as root and there is no account `postgres`');
    const [, , uid, gid] = line.split(':');
    return { uid: Number(uid), gid: Number(gid) };
}

export class Cluster implements ClusterAddress {
    readonly host = '127.0.0.1';
    readonly user = 'postgres';
    readonly dir: string;
    port = 0;
    private child: ChildProcess | undefined;
    private readonly options: ClusterOptions;

    private constructor(dir: string, options: ClusterOptions) {
        this.dir = dir;
        this.options = options;
    }

    static async start(options: ClusterOptions = {}): Promise<Cluster> {
        const dir = tempDir('pg');
        const who = account();
        chmodSync(dir, 0o755);
        const data = join(dir, 'data');
        const socket = join(dir, 'socket');
        mkdirSync(data);
        mkdirSync(socket);
        for (const path of [data, socket]) {
            if (who.uid !== undefined) chownSync(path, who.uid, who.gid!);
        }
        execFileSync(
            join(binDir(), 'initdb'),
            ['-D', data, '-U', 'postgres', '-A', 'trust', '--no-sync', '-E', 'UTF8',
                '--locale=C.UTF-8'],
            { ...who, cwd: data, stdio: ['ignore', 'ignore', 'pipe'], env: { LC_ALL: 'C.UTF-8', PATH: process.env.PATH } },
        );
        const cluster = new Cluster(dir, options);
        await cluster.launch();
        return cluster;
    }

    /** Starts the postmaster on its port (a free one the first time). */
    async launch(): Promise<void> {
        for (let attempt = 0; ; attempt++) {
            if (this.port === 0) this.port = await freePort();
            try {
                await this.launchOnce();
                return;
            } catch (error) {
                if (attempt >= 3) throw error;
                if (this.child && this.child.exitCode === null) await this.kill();
                this.port = 0;
            }
        }
    }

    private async launchOnce(): Promise<void> {
        const fsync = this.options.fsync ? 'on' : 'off';
        const settings: Record<string, string | number> = {
            listen_addresses: this.host,
            port: this.port,
            unix_socket_directories: join(this.dir, 'socket'),
            wal_level: 'logical',
            max_replication_slots: 50,
            max_wal_senders: 50,
            max_connections: 300,
            shared_buffers: '64MB',
            fsync,
            full_page_writes: fsync,
            jit: 'off',
            timezone: 'UTC',
            log_min_messages: 'warning',
            max_prepared_transactions: 10,
            ...this.options.settings,
        };
        const args = ['-D', join(this.dir, 'data')];
        for (const [name, value] of Object.entries(settings)) args.push('-c', `${name}=${value}`);
        const log = openSync(join(this.dir, 'postgres.log'), 'a');
        const child = spawn(join(binDir(), 'postgres'), args, {
            ...account(),
            cwd: join(this.dir, 'data'),
            stdio: ['ignore', log, log],
            env: { LC_ALL: 'C.UTF-8', PATH: process.env.PATH, TZ: 'UTC' },
        });
        this.child = child;
        trackPid(child.pid!);
        await until('Postgres to accept connections', async () => {
            if (child.exitCode !== null) {
                throw new Error(`Postgres ended: ${this.log().split('\n').slice(-5).join(' | ')}`);
            }
            const db = await this.connect('postgres');
            await db.end();
            return true;
        }, 30_000, 50);
    }

    get dataDir(): string {
        return join(this.dir, 'data');
    }

    /** Settings of the next launches, over those of the start. */
    configure(settings: Record<string, string | number>): void {
        this.options.settings = { ...this.options.settings, ...settings };
    }

    /** A file of the data directory that the server's account can read. */
    writeData(name: string, text: string): void {
        const path = join(this.dataDir, name);
        const who = account();
        writeFileSync(path, text);
        if (who.uid !== undefined) chownSync(path, who.uid, who.gid!);
    }

    /** A copy of the data directory of a stopped server; gives its name for `takeBack`. */
    copyData(): string {
        const copy = join(this.dir, `copy-${Date.now()}`);
        execFileSync('cp', ['-a', this.dataDir, copy]);
        return copy;
    }

    /** Puts a copy in the data directory's place. */
    takeBack(copy: string): void {
        removeDir(this.dataDir);
        execFileSync('cp', ['-a', copy, this.dataDir]);
    }

    /** A stopped server goes on on a new timeline, as after a failover. */
    async switchTimeline(): Promise<void> {
        this.writeData('standby.signal', '');
        await this.launch();
        const db = await this.connect('postgres');
        await db.query('select pg_promote()');
        await db.end();
    }

    /** The postmaster and all its processes stand still, or go on. */
    freeze(frozen: boolean): void {
        const pids = execFileSync('ps', ['-o', 'pid=', '--ppid', String(this.child!.pid)])
            .toString().split(/\s+/).filter(Boolean).map(Number);
        for (const pid of [this.child!.pid!, ...pids]) {
            try {
                process.kill(pid, frozen ? 'SIGSTOP' : 'SIGCONT');
            } catch {
                // It has just ended.
            }
        }
    }

    log(): string {
        const path = join(this.dir, 'postgres.log');
        return existsSync(path) ? readFileSync(path, 'utf8') : '';
    }

    url(database: string): string {
        return databaseUrl(this, database);
    }

    connect(database: string): Promise<pg.Client> {
        return connect(this, database);
    }

    private async end(signal: NodeJS.Signals): Promise<void> {
        const child = this.child;
        if (!child) return;
        child.kill(signal);
        await exitOf(child);
        untrackPid(child.pid!);
        this.child = undefined;
    }

    /** Fast shutdown: sessions are ended, everything is written. */
    async stop(): Promise<void> {
        await this.end('SIGINT');
    }

    /** Immediate shutdown, as a crash leaves it; recovery runs at the next launch. */
    async kill(): Promise<void> {
        await this.end('SIGQUIT');
    }

    async restart(): Promise<void> {
        await this.stop();
        await this.launch();
    }

    async remove(): Promise<void> {
        await this.end('SIGQUIT');
        removeDir(this.dir);
    }
}

export function databaseUrl(at: ClusterAddress, database: string, user = at.user): string {
    return `postgresql://${user}@${at.host}:${at.port}/${database}?sslmode=disable`;
}

// Values stay Postgres text: what is compared with the server must not be interpreted.
const RAW_TYPES = { getTypeParser: () => (value: string | null) => value };

/** A session with the display settings that the protocol prescribes; values are text. */
export async function connect(
    at: ClusterAddress,
    database: string,
    user = at.user,
): Promise<pg.Client> {
    const db = new pg.Client({
        host: at.host,
        port: at.port,
        user,
        database,
        types: RAW_TYPES as unknown as pg.CustomTypesConfig,
        options:
            '-c bytea_output=hex -c DateStyle=ISO,DMY -c TimeZone=UTC ' +
            '-c extra_float_digits=1 -c IntervalStyle=iso_8601',
    });
    // A restarted or killed server ends sessions; the next query reports it.
    db.on('error', () => undefined);
    await db.connect();
    return db;
}

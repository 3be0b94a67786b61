// Child processes, temporary folders and ports. Whatever is registered here is removed
// even if this process dies: a reaper process notices the end of its input.
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

let reaper: ChildProcess | undefined;

function tell(line: string): void {
    if (!reaper) {
        const script = fileURLToPath(new URL('./reaper.mjs', import.meta.url));
        reaper = spawn(process.execPath, [script], {
            detached: true,
            stdio: ['pipe', 'ignore', 'ignore'],
        });
        reaper.unref();
        reaper.stdin!.on('error', () => undefined);
        (reaper.stdin as unknown as { unref?: () => void }).unref?.();
    }
    reaper.stdin!.write(line + '\n');
}

export function trackPid(pid: number): void {
    tell(`+pid ${pid}`);
}

export function untrackPid(pid: number): void {
    tell(`-pid ${pid}`);
}

/** A new empty folder under the system's temporary folder. */
export function tempDir(prefix: string): string {
    const dir = mkdtempSync(join(tmpdir(), `coulomb-${prefix}-`));
    tell(`+dir ${dir}`);
    return dir;
}

export function removeDir(dir: string): void {
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
    tell(`-dir ${dir}`);
}

/** A port of 127.0.0.1 that was free a moment ago. */
export async function freePort(): Promise<number> {
    return await new Promise((resolve, reject) => {
        const probe = createServer();
        probe.once('error', reject);
        probe.listen(0, '127.0.0.1', () => {
            const address = probe.address();
            const port = typeof address === 'object' && address ? address.port : 0;
            probe.close(() => resolve(port));
        });
    });
}

export function sleep(ms: number): Promise<void> {
    return new Promise((done) => setTimeout(done, ms));
}

/** Thrown by a check of `until` to end the wait at once. */
export class Hopeless extends Error {}

/** Polls until `check` returns something other than false, null or undefined. */
export async function until<T>(
    what: string,
    check: () => Promise<T> | T,
    timeoutMs = 20_000,
    everyMs = 25,
): Promise<NonNullable<Exclude<T, false>>> {
    const end = Date.now() + timeoutMs;
    let lastError: unknown;
    for (;;) {
        try {
            const value = await check();
            if (value !== false && value !== null && value !== undefined) {
                return value as NonNullable<Exclude<T, false>>;
            }
            lastError = undefined;
        } catch (error) {
            if (error instanceof Hopeless) throw error;
            lastError = error;
        }
        if (Date.now() > end) {
            const reason = lastError ? `: ${String(lastError)}` : '';
            throw new Error(`timed out after ${timeoutMs} ms waiting for ${what}${reason}`);
        }
        await sleep(everyMs);
    }
}

export function exitOf(child: ChildProcess): Promise<number | string> {
    if (child.exitCode !== null) return Promise.resolve(child.exitCode);
    if (child.signalCode !== null) return Promise.resolve(child.signalCode);
    return new Promise((done) => {
        child.once('exit', (code, signal) => done(code ?? signal ?? 'unknown'));
    });
}

// A command of the built binary, run to its end or until a line was seen.
import { spawn } from 'node:child_process';
import { coulombBin } from './coulomb.js';
import { trackPid, until, untrackPid } from './process.js';

export class Command {
    stdout = '';
    stderr = '';
    code: number | null | undefined;
    private readonly child;

    constructor(args: string[], env: Record<string, string> = {}) {
        this.child = spawn(coulombBin(), args, { env: { PATH: process.env.PATH ?? '', ...env } });
        const pid = this.child.pid!;
        trackPid(pid);
        this.child.stdout.on('data', (data) => { this.stdout += data; });
        this.child.stderr.on('data', (data) => { this.stderr += data; });
        this.child.on('close', (code) => {
            this.code = code;
            untrackPid(pid);
        });
    }

    get lines(): string[] {
        return this.stdout.split('\n').filter((line) => line !== '');
    }

    async line(what: RegExp): Promise<string> {
        return await until(`a line like ${what}; ${this.stderr}`, () => {
            if (this.code !== undefined && !this.lines.some((line) => what.test(line))) {
                throw new Error(`it ended with ${this.code}: ${this.stdout} ${this.stderr}`);
            }
            return this.lines.find((line) => what.test(line));
        });
    }

    /** Exit code, and what it said. */
    async end(): Promise<{ code: number | null; stdout: string; stderr: string }> {
        await until('the command to end', () => this.code !== undefined, 30_000);
        return { code: this.code as number | null, stdout: this.stdout, stderr: this.stderr };
    }

    async stop(): Promise<void> {
        if (this.code === undefined) this.child.kill('SIGTERM');
        await until('the command to stop', () => this.code !== undefined);
    }
}

export const run = (args: string[], env: Record<string, string> = {}) => new Command(args, env).end();

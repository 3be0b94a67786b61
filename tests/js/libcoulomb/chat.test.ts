// examples/chat.c as its head says to run it: two who talk, a message that the database refuses, and one
// that is typed while the server is away.
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { coulombBin } from '../support/coulomb.js';
import { trackPid, until, untrackPid } from '../support/process.js';
import { useSuite } from '../support/suite.js';
import { API_SECRET, authToken, GATE_ENV } from '../support/tokens.js';

const source = readFileSync(fileURLToPath(new URL('../../../examples/chat.c', import.meta.url)), 'utf8');
const sql = /In your database:\n \*\n([^]*?)\n \*\n \* The server/.exec(source)![1].replace(/^ \* {5}/gm, '');

const suite = useSuite('chat', {
    setup: sql.replace(/CREATE ROLE (\w+) NOLOGIN;/, (_, role) => `do $$ begin create role ${role} nologin;
        exception when duplicate_object then null; end $$;`),
    env: { ...GATE_ENV, COULOMB_GATE_FUNCTION: '', COULOMB_WRITE_ROLES: 'chat_user' },
});

class Chat {
    out = '';
    code: number | null | undefined;
    private readonly child: ChildProcessWithoutNullStreams;

    constructor(sub: string) {
        this.child = spawn(join(dirname(coulombBin()), 'tests', 'chat'), [suite.server.url],
            { env: { COULOMB_TOKEN: authToken(sub), ELECTRIC_SECRET: API_SECRET } });
        trackPid(this.child.pid!);
        for (const out of [this.child.stdout, this.child.stderr]) out.on('data', (data) => { this.out += data; });
        this.child.on('close', (code) => {
            this.code = code;
            untrackPid(this.child.pid!);
        });
    }

    say(line: string): void {
        this.child.stdin.write(`${line}\n`);
    }

    async sees(line: string): Promise<void> {
        await until(`"${line}" in\n${this.out}`, () => this.out.split('\n').includes(line));
    }

    async leave(): Promise<void> {
        this.child.stdin.end();
        await until('a chat to end', () => this.code !== undefined);
        expect([this.code, this.out]).toEqual([0, expect.not.stringContaining('chat:')]);
    }

    kill(): void {
        this.child.kill('SIGKILL');
    }
}

let chats: Chat[] = [];
afterEach(() => chats.forEach((c) => c.kill()));

test('two talk', async () => {
    const amira = new Chat('amira');
    const ben = new Chat('ben');
    chats = [amira, ben];
    amira.say('hello');
    await amira.sees('? me: hello');
    await amira.sees('= amira: hello');
    await ben.sees('+ amira: hello');
    ben.say('hi "amira" \\ é');
    await amira.sees('+ ben: hi "amira" \\ é');
    // Refused, and taken back.
    ben.say('x'.repeat(600));
    await ben.sees('! not said: a value is not allowed');
    await ben.sees(`- me: ${'x'.repeat(600)}`);
    // While the server is away.
    await suite.server.kill9();
    amira.say('anybody there?');
    await amira.sees('? me: anybody there?');
    await suite.server.launch();
    await ben.sees('+ amira: anybody there?');
    await amira.sees('= amira: anybody there?');
    const late = new Chat('cleo');
    chats.push(late);
    await late.sees('+ amira: anybody there?');
    for (const chat of chats) await chat.leave();
    expect(amira.out).not.toContain('xxx');
    expect(await suite.db.sql('select author, count(*) from messages group by author order by author'))
        .toEqual([{ author: 'amira', count: '2' }, { author: 'ben', count: '1' }]);
});

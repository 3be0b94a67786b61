// coulomb tail, token, put, patch and delete: the client library against the real server.
import { afterEach, describe, expect, test } from 'vitest';
import { Command, run } from '../support/command.js';
import { useSuite } from '../support/suite.js';
import { API_SECRET, authToken, GATE_ENV } from '../support/tokens.js';
import { WORLD, WORLD_ENV } from '../gate/world.js';

const suite = useSuite('commands', {
    setup: `${WORLD}
        create table todos(id int primary key, title text not null constraint no_empty_title check (title <> ''),
            done bool not null default false, owner text not null default
            current_setting('request.jwt.claims', true)::json ->> 'sub', price numeric, tags text[], extra jsonb);
        insert into todos(id, title, owner, price, tags, extra) values
            (1, 'one', 'amira', 1.50, '{a,"b c"}', '{"k": [1]}'), (2, 'two', 'ben', null, null, null);
        alter table todos enable row level security;
        create policy own on todos using (owner = current_setting('request.jwt.claims', true)::json ->> 'sub');
        grant select, insert, update, delete on todos to coulomb_user;
        create table pairs(a int, b text, v text, primary key (b, a));
        insert into pairs values (1, 'x/y', 'old');
        grant all on pairs to coulomb_user;
        create table keyless(v text);`,
    env: { ...GATE_ENV, ...WORLD_ENV },
});

const env = (sub = 'amira'): Record<string, string> => ({ ELECTRIC_SECRET: API_SECRET, COULOMB_TOKEN: authToken(sub) });
const at = (...args: string[]): string[] => [...args, '--url', suite.server.url];
let tail: Command | undefined;
afterEach(async () => {
    await tail?.stop();
    tail = undefined;
});

describe('coulomb tail', () => {
    test('prints the rows of a shape, and ends when asked', async () => {
        const all = await run(at('tail', 'todos', '--once', '--where', 'id = $1', '--param', '1=1',
            '--columns', 'id,title,price,tags,extra'), env());
        expect(all).toEqual({ code: 0, stderr: '', stdout:
            '+ {"id":1,"title":"one","price":"1.50","tags":"{a,\\"b c\\"}","extra":{"k": [1]}}\n= up to date\n' });
    });

    test('goes on with every change, in order, also over a restart of the server', async () => {
        tail = new Command(at('tail', 'todos', '--json', '--columns', 'id,title'), env());
        await tail.line(/up-to-date/);
        await suite.db.sql("insert into todos(id, title, owner) values (10, 'new', 'ben')");
        await suite.db.sql("update todos set title = 'newer' where id = 10");
        await tail.line(/newer/);
        await suite.server.kill9();
        await suite.db.sql('delete from todos where id = 10');
        await suite.server.launch();
        await tail.line(/"delete"/);
        const changes = tail.lines.map((line) => JSON.parse(line)).filter((m) => m.value?.id === 10);
        expect(changes).toEqual([
            { operation: 'insert', key: '"public"."todos"/"10"', value: { id: 10, title: 'new' },
                txids: [expect.any(Number)], lsn: expect.stringMatching(/^\d+$/) },
            expect.objectContaining({ operation: 'update', value: { id: 10, title: 'newer' } }),
            expect.objectContaining({ operation: 'delete' }),
        ]);
    });

    test('with a gatekeeper reads what the token grants', async () => {
        const mine = await run(at('tail', 'messages', '--gatekeeper', '--once', '--param', 'conversationId=c1'), env());
        expect(mine.stdout).toBe('+ {"id":1,"conversation_id":"c1","content":"hello"}\n' +
            '+ {"id":2,"conversation_id":"c1","content":"world"}\n= up to date\n');
        const theirs = await run(at('tail', 'messages', '--gatekeeper', '--once', '--param', 'conversationId=c2'), env());
        expect([theirs.code, theirs.stdout]).toEqual([1, '']);
        expect(theirs.stderr).toContain('does not grant this shape');
    });

    test('says what is wrong', async () => {
        const bad = async (...args: string[]) => await run(at('tail', ...args), env());
        expect((await bad()).stderr).toMatch(/which table/);
        expect((await bad('todos', 'x')).stderr).toMatch(/takes one table/);
        expect((await bad('todos', '--nope', '1')).stderr).toMatch(/--nope.*help tail/s);
        expect((await bad('todos', '--param', 'x')).stderr).toMatch(/NAME=VALUE/);
        expect((await bad('todos', '--param', 'x=1')).stderr).toMatch(/1 for \$1/);
        const where = await bad('todos', '--where', 'nope = 1');
        expect([where.code, where.stderr]).toEqual([1, expect.stringContaining('unknown reference nope')]);
        const secret = await run(at('tail', 'todos', '--once'), {});
        expect([secret.code, secret.stderr]).toEqual([1, expect.stringContaining('401')]);
        expect((await run(['help', 'tail'])).stdout).toContain('usage: coulomb tail');
    });
});

describe('coulomb token', () => {
    test('prints one that reads the shape', async () => {
        const { code, stdout } = await run(at('token', 'messages', '--param', 'conversationId=c1'), env());
        expect(code).toBe(0);
        const reply = await suite.server.get('/shape?offset=-1',
            { headers: { authorization: `Bearer ${stdout.trim()}` } });
        expect(reply.json().filter((m: any) => m.value).map((m: any) => m.value.content)).toEqual(['hello', 'world']);
        const other = await run(at('token', 'messages', '--param', 'conversationId=c1'), env('ben'));
        expect([other.code, other.stdout]).toEqual([1, '']);
        expect((await run(at('token', 'messages'), {})).stderr).toContain('COULOMB_TOKEN');
    });
});

describe('coulomb put, patch, delete', () => {
    const states = (stdout: string): string[] =>
        stdout.trim().split('\n').map((line) => /ms {2}(\w+)/.exec(line)?.[1] ?? line);
    const row = async (id: number): Promise<any> => (await suite.db.sql('select title, done, owner, price, tags, extra from todos where id = $1', [id]))[0];

    test('go through local, sent, acknowledged or at once observed', async () => {
        const put = await run(at('put', 'todos', 'id=20', 'title=oats', 'price=2.50', 'tags={a,b}', 'extra={"x": null}'), env());
        expect([put.code, put.stderr]).toEqual([0, '']);
        expect(states(put.stdout)[0]).toBe('local');
        expect(states(put.stdout)).toContain('sent');
        expect(states(put.stdout).at(-1)).toBe('observed');
        expect(await row(20)).toEqual({ title: 'oats', done: 'f', owner: 'amira', price: '2.50', tags: '{a,b}', extra: '{"x": null}' });
        const patch = await run(at('patch', 'todos', 'id=20', 'done=true', 'price:=null'), env());
        expect([patch.code, states(patch.stdout).at(-1)]).toEqual([0, 'observed']);
        expect(await row(20)).toMatchObject({ done: 't', price: null });
        expect((await run(at('delete', 'todos', 'id=20'), env())).code).toBe(0);
        expect(await row(20)).toBe(undefined);
    });

    test('of a key of several columns', async () => {
        expect((await run(at('patch', 'pairs', 'b=x/y', 'a=1', 'v=new'), env())).code).toBe(0);
        expect(await suite.db.sql('select * from pairs')).toEqual([{ a: '1', b: 'x/y', v: 'new' }]);
        expect((await run(at('put', 'pairs', 'b=z', 'a=2', 'v=w'), env())).code).toBe(0);
        expect((await run(at('delete', 'pairs', 'b=x/y', 'a=1'), env())).code).toBe(0);
        expect(await suite.db.sql('select * from pairs')).toEqual([{ a: '2', b: 'z', v: 'w' }]);
    });

    test('are rejected with the reason, and taken back', async () => {
        const empty = await run(at('patch', 'todos', 'id=1', 'title='), env());
        expect([empty.code, states(empty.stdout).at(-1)]).toEqual([1, 'rejected']);
        expect(empty.stderr).toMatch(/todos\.title.*no_empty_title.*check_violation/);
        const theirs = await run(at('patch', 'todos', 'id=2', 'title=mine'), env());
        expect([theirs.code, theirs.stderr]).toEqual([1, expect.stringContaining('not_found')]);
        const again = await run(at('put', 'todos', 'id=2', 'title=x'), env());
        expect([again.code, again.stderr]).not.toEqual([0, '']);
        const late = await run(at('patch', 'todos', 'id=1', 'title=x'),
            { ...env(), COULOMB_TOKEN: authToken('amira', { exp: 1 }) });
        expect([late.code, late.stderr]).toEqual([1, expect.stringContaining('token')]);
        expect((await suite.db.sql('select title from todos where id < 3 order by id'))).toEqual([{ title: 'one' }, { title: 'two' }]);
    });

    test('say what is wrong', async () => {
        const bad = async (...args: string[]) => await run(at(...args), env());
        for (const [args, sentence] of [
            [['put', 'todos'], /which row/], [['put', 'todos', 'id'], /COLUMN=VALUE/],
            [['put', 'todos', 'id=1', 'nope=2'], /no column "nope"/], [['patch', 'todos', 'title=x'], /belongs to the key/],
            [['patch', 'todos', 'id=1'], /what is to change/], [['delete', 'todos', 'id=1', 'title=x'], /the key alone/],
            [['patch', 'todos', 'id=99', 'title=x'], /no row/], [['put', 'keyless', 'v=1'], /primary key/],
        ] as [string[], RegExp][]) {
            const { code, stderr } = await bad(...args);
            expect([args, code]).toEqual([args, 2]);
            expect(stderr).toMatch(sentence);
        }
    });
});

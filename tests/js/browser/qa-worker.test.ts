// The answer worker of the Q&A app without the app: lost connections, kills, several at once, and
// texts that nobody expects. A trigger writes down every state that an answer went through.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ROOT } from '../support/app.js';
import { connect } from '../support/postgres.js';
import { until } from '../support/process.js';
import { QaWorker, workerPath } from '../support/qa-worker.js';
import { useSuite } from '../support/suite.js';

const suite = useSuite('qa_worker', {
    setup: `${readFileSync(join(ROOT, 'examples/qa/schema.sql'), 'utf8')};
        insert into app.conversations (id, owner) values ('c-1', 'u-amira');
        create table history (at serial primary key, id text, status text, content text, pid int);
        create function note() returns trigger language plpgsql as $$
        begin
            insert into history (id, status, content, pid)
                values (new.id, new.status, new.content, pg_backend_pid());
            return null;
        end $$;
        create trigger note after update on messages for each row execute function note()`,
    server: false,
});

const workers: QaWorker[] = [];

async function worker(tokenMs: number, url = suite.db.url): Promise<QaWorker> {
    const started = await QaWorker.start(url, tokenMs);
    workers.push(started);
    return started;
}

let asked = 0;

/** A question and the place of its answer, whose id is returned. */
async function ask(question: string): Promise<string> {
    const id = String(++asked).padStart(8, '0');
    await suite.db.sql(
        `insert into messages (id, conversation_id, role, status, content, question_id, created_at) values
            ('q-${id}', 'c-1', 'user', 'completed', $1, null, clock_timestamp()),
            ('a-${id}', 'c-1', 'assistant', 'pending', 'Generating answer...', 'q-${id}',
             clock_timestamp() + interval '1 ms')`, [question]);
    await suite.db.sql('notify questions');
    return `a-${id}`;
}

const row = async (id: string): Promise<any> =>
    (await suite.db.sql('select status, content from messages where id = $1', [id]))[0];

async function completed(...ids: string[]): Promise<void> {
    await until('the answers', async () => {
        const [{ n }] = await suite.db.sql(
            "select count(*)::int as n from messages where id = any ($1) and status = 'completed'", [ids]);
        return Number(n) === ids.length;
    }, 40_000);
}

/** Waits until that many characters of it are said; returns what is. */
const saying = (id: string, length: number): Promise<string> =>
    until('some of the answer', async () => {
        const { status, content } = await row(id);
        return status === 'generating' && content.length >= length && content;
    });

/** It only grew, from its first token to its last, a token at a time and none of them twice. */
async function grewOnce(id: string): Promise<void> {
    const states = await suite.db.sql('select status, content from history where id = $1 order by at', [id]);
    expect(states.length).toBeGreaterThan(20);
    for (let i = 1; i < states.length; i++) {
        const more = states[i].content.slice(states[i - 1].content.length);
        expect(states[i].content.startsWith(states[i - 1].content), id).toBe(true);
        expect(more, id).toMatch(/^[^ ]+ ?$/);
    }
    expect(states.map(({ status }) => status).indexOf('completed')).toBe(states.length - 1);
}

const lines = (log: string, event: string, id = ''): number =>
    log.split('\n').filter((line) => line.startsWith(`event=worker.${event}`) && line.includes(id)).length;

describe('the answer worker', () => {
    beforeEach(async () => {
        await suite.db.sql('truncate messages, history');
    });

    afterEach(async () => {
        for (const one of workers.splice(0)) await one.end('SIGKILL');
    });

    test('answers what it finds and what is asked later, and ends when it is told to', async () => {
        const before = await ask('What was asked before there was a worker?');
        const one = await worker(0);
        const later = await ask('And later?');
        await completed(before, later);
        await grewOnce(before);
        await grewOnce(later);
        expect(await one.end('SIGTERM')).toBe(0);
        expect(one.log).toContain('event=worker.stopped');
    });

    test('a connection that is lost in the middle: it goes on where it was', async () => {
        const one = await worker(50);
        const id = await ask('What happens when a connection is lost?');
        for (const length of [20, 80]) {
            const said = await saying(id, length);
            await suite.db.sql(`select pg_terminate_backend(pid) from history where at =
                (select max(at) from history)`);
            await saying(id, said.length + 10);
        }
        await completed(id);
        await grewOnce(id);
        expect(lines(one.log, 'resumed', id)).toBe(2);
        expect(lines(one.log, 'ready')).toBe(3);
    });

    test('a database that is not there yet', async () => {
        const name = `${suite.db.name}_later`;
        const url = suite.db.url.replace(suite.db.name, name);
        const admin = await connect(suite.db.cluster, 'postgres');
        const one = QaWorker.spawn(url, 0);
        workers.push(one);
        try {
            await until('it to say so', () => one.log.includes('event=worker.not_connected reason="'));
            await admin.query(`create database ${name} template template0`);
            await one.ready();
            // The tables are not there either.
            await until('it to say that', () => /event=worker\.failed reason="ERROR: +relation/.test(one.log));
        } finally {
            await one.end('SIGKILL');
            await admin.query(`drop database if exists ${name} with (force)`);
            await admin.end();
        }
    });

    test('two at once: each answer is taken by one', async () => {
        const ids: string[] = [];
        for (let i = 0; i < 40; i++) ids.push(await ask(`Question number ${i}, for either of two`));
        const [one, two] = await Promise.all([worker(5), worker(5)]);
        for (let i = 0; i < 10; i++) ids.push(await ask(`A later question, number ${i}`));
        await completed(...ids);
        for (const id of ids) {
            expect(lines(one.log, 'began', id) + lines(two.log, 'began', id), id).toBe(1);
            await grewOnce(id);
        }
        expect(lines(one.log + two.log, 'resumed')).toBe(0);
        // One has 32 at a time at the most: the other had work.
        for (const { log } of [one, two]) expect(lines(log, 'completed')).toBeGreaterThan(0);
        const shared = await suite.db.sql(
            'select id from history group by id having count(distinct pid) > 1');
        expect(shared).toEqual([]);
    });

    test('one of two is killed in the middle: the other takes its answers over', async () => {
        const both = await Promise.all([worker(40), worker(40)]);
        const ids = [await ask('Which of you is it?'), await ask('And which of you is this?')];
        const said = await Promise.all(ids.map((id) => saying(id, 30)));
        const victim = both.find(({ log }) => lines(log, 'began', ids[0]) === 1)!;
        const heir = both.find((one) => one !== victim)!;
        await victim.end('SIGKILL');
        await completed(...ids);
        for (const id of ids) await grewOnce(id);
        expect(lines(heir.log, 'resumed', ids[0])).toBe(1);
        expect((await row(ids[0])).content.startsWith(said[0])).toBe(true);
    });

    test('more than it works on at a time: all are answered, the oldest first', async () => {
        const ids: string[] = [];
        for (let i = 0; i < 70; i++) ids.push(await ask(`Question number ${i}`));
        const one = await worker(0);
        await completed(...ids);
        const began = [...one.log.matchAll(/event=worker\.began id=(\S+)/g)].map(([, id]) => id);
        expect(began).toEqual(ids);
    });

    test('a row that goes in the middle, and one that somebody else completes', async () => {
        const one = await worker(40);
        const [gone, taken, stays] = [await ask('Will this be deleted?'), await ask('Is this done by hand?'),
            await ask('And this one stays?')];
        for (const id of [gone, taken, stays]) await saying(id, 20);
        await suite.db.sql('delete from messages where id = $1', [gone]);
        await suite.db.sql("update messages set status = 'completed', content = 'By hand.' where id = $1",
            [taken]);
        await completed(stays);
        await grewOnce(stays);
        expect((await row(taken)).content).toBe('By hand.');
        const more = await ask('Does it still answer?');
        await completed(more);
        expect(lines(one.log, 'failed')).toBe(0);
        await until('its locks to be released', async () => (await suite.db.sql(
            `select from pg_locks where locktype = 'advisory' and database =
                (select oid from pg_database where datname = current_database())`)).length === 0);
    });

    test('unusual questions', async () => {
        const questions = ['', ' ', '%s %n %1$s %', "'; drop table messages; --", 'line\none\ttwo\r\n',
            '¿Cómo podar un limonero en un balcón?', 'Überraschung', '什么是数据库？', 'ما هي قاعدة البيانات؟',
            '🍋'.repeat(2000), 'x'.repeat(2000), 'e\u0301'.repeat(1000), '\u202Ereversed', '\\x00 \\u0000'];
        const ids: string[] = [];
        await worker(0);
        for (const question of questions) ids.push(await ask(question));
        await completed(...ids);
        for (const id of ids) await grewOnce(id);
        expect((await row(ids[6])).content).toContain('Überraschung');
        const again = await ask(questions[5]);
        await completed(again);
        expect((await row(again)).content).toBe((await row(ids[5])).content);
    });

    test('a row that holds something else than the answer begins anew', async () => {
        const id = await ask('What was said before?');
        await suite.db.sql("update messages set status = 'generating', content = $2 where id = $1",
            [id, 'An older version said something else']);
        await suite.db.sql('truncate history');
        await worker(0);
        await completed(id);
        await grewOnce(id);
    });

    test('settings that make no sense', () => {
        for (const [env, said] of [
            [{}, 'DATABASE_URL says where'],
            [{ DATABASE_URL: suite.db.url, QA_TOKEN_MS: '-1' }, 'QA_TOKEN_MS is milliseconds, 0 to 60000'],
            [{ DATABASE_URL: suite.db.url, QA_TOKEN_MS: '5s' }, 'QA_TOKEN_MS is milliseconds, 0 to 60000'],
        ] as const) {
            const { status, stderr } = spawnSync(workerPath(), [], { env, encoding: 'utf8' });
            expect([status, stderr]).toEqual([2, expect.stringContaining(said)]);
        }
    });
});

// The local database of write pattern 4 by itself: its view, triggers and functions, on the PGlite
// that the page uses, without a browser and without a server.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { AppPage, ROOT } from '../support/app.js';

const APP = join(ROOT, 'examples/write-patterns/web');
const A = '00000000-0000-4000-8000-00000000000a';
const B = '00000000-0000-4000-8000-00000000000b';

let db: any;

const query = async (text: string, values: unknown[] = []): Promise<any[]> =>
    (await db.query(text, values)).rows;
const todos = (): Promise<any[]> => query(
    'select id, title, completed, pending from todos order by created_at, id');
const changes = (where = 'true'): Promise<any[]> => query(
    `select operation, value, state, reason from changes where ${where} order by id`);
const localColumns = async (id: string): Promise<string[] | undefined> =>
    (await query('select changed_columns from todos_local where id = $1', [id]))[0]?.changed_columns.sort();

/** As the stream brings it; a column that is not given is not touched. */
async function synced(row: Record<string, unknown>): Promise<void> {
    const names = Object.keys(row);
    await query(`insert into todos_synced (${names}) values (${names.map((_, i) => `$${i + 1}`)})
        on conflict (id) do update set ${names.map((n) => `${n} = excluded.${n}`)}`, Object.values(row));
}

const lastWrite = async (id: string): Promise<string> =>
    (await query('select write_id from changes where todo_id = $1 order by id desc limit 1', [id]))[0].write_id;

/** As the synchroniser marks what it has sent, and what was answered. */
const mark = (state: string, where = 'true', txid = 7, lsn = 70): Promise<any[]> => query(
    `update changes set state = '${state}', txid = ${txid}, lsn = ${lsn} where ${where}`);

describe('the local database of pattern 4', () => {
    beforeAll(async () => {
        await AppPage.install('write-patterns/web');
        const { PGlite } = await import(join(APP, 'node_modules/@electric-sql/pglite/dist/index.js'));
        db = await PGlite.create('memory://');
        await db.exec(readFileSync(join(APP, 'src/patterns/4-through-the-db/local-schema.sql'), 'utf8'));
    }, 120_000);

    afterAll(async () => {
        await db?.close();
    });

    beforeEach(async () => {
        await db.exec('truncate todos_synced, todos_local, changes, sync_state');
        await synced({ id: A, title: 'a', completed: false, created_at: '2020-01-01 00:00Z', write_id: null });
    });

    test('opened again, it is made again without harm', async () => {
        await query("update todos set title = 'mine'");
        await db.exec(readFileSync(join(APP, 'src/patterns/4-through-the-db/local-schema.sql'), 'utf8'));
        expect(await todos()).toMatchObject([{ title: 'mine', pending: true }]);
        expect(await changes()).toHaveLength(1);
    });

    test('each write is logged once, with what it changed and nothing else; null is a value', async () => {
        await query("insert into todos (id, title) values ($1, 'b')", [B]);
        await query('update todos set title = null where id = $1', [A]);
        await query("update todos set title = 'a2', completed = true where id = $1", [A]);
        await query("update todos set title = 'a2' where id = $1", [A]); // changes nothing
        await query('delete from todos where id = $1', [A]);
        expect(await changes()).toEqual([
            { operation: 'insert', state: 'pending', reason: null,
                value: { title: 'b', completed: false, created_at: expect.any(String) } },
            { operation: 'update', state: 'pending', reason: null, value: { title: null } },
            { operation: 'update', state: 'pending', reason: null, value: { title: 'a2', completed: true } },
            { operation: 'delete', state: 'pending', reason: null, value: {} },
        ]);
        const ids = await query('select distinct write_id from changes');
        expect(ids).toHaveLength(4);
        expect(await todos()).toMatchObject([{ id: B, pending: true }]);
    });

    test('what is null shows as null over what the server has', async () => {
        await query('update todos set title = null');
        expect(await todos()).toMatchObject([{ title: null, completed: false }]);
        await synced({ id: A, completed: true });
        expect(await todos()).toMatchObject([{ title: null, completed: true, pending: true }]);
    });

    test('writes of one transaction are one group, in their order', async () => {
        await db.transaction(async (tx: any) => {
            await tx.query("insert into todos (id, title) values ($1, 'b')", [B]);
            await tx.query('update todos set completed = true where id = $1', [A]);
        });
        await query("update todos set title = 'later' where id = $1", [A]);
        const groups = await query(`select array_agg(operation order by id) as ops from changes
            group by transaction_id order by min(id)`);
        expect(groups.map(({ ops }) => ops)).toEqual([['insert', 'update'], ['update']]);
        await expect(db.transaction(async (tx: any) => {
            await tx.query('delete from todos');
            throw new Error('thought better of it');
        })).rejects.toThrow('thought better');
        expect(await changes()).toHaveLength(3);
        expect(await todos()).toHaveLength(2);
    });

    test('an id that is there already is not inserted again', async () => {
        await query("insert into todos (id, title) values ($1, 'b')", [B]);
        for (const id of [A, B]) {
            await expect(query("insert into todos (id, title) values ($1, 'x')", [id])).rejects.toMatchObject(
                { code: '23505', message: expect.stringContaining(id) });
        }
        await query('delete from todos where id = $1', [A]); // until the server has deleted it, too
        await expect(query("insert into todos (id, title) values ($1, 'x')", [A])).rejects.toThrow('already');
    });

    test('the own echo ends a write, an older one does not; others show in the other columns', async () => {
        await query("update todos set title = 'mine'");
        const first = await lastWrite(A);
        await query('update todos set completed = true');
        const second = await lastWrite(A);
        await mark('accepted');
        await synced({ id: A, title: 'mine', write_id: first });
        expect(await changes()).toHaveLength(1);
        expect(await todos()).toMatchObject([{ title: 'mine', completed: true, pending: true }]);
        await synced({ id: A, created_at: '2021-01-01 00:00Z', write_id: '00000000-0000-4000-8000-0000000000ff' });
        expect(await todos()).toMatchObject([{ completed: true, pending: true }]);
        expect((await query('select created_at from todos'))[0].created_at.getUTCFullYear()).toBe(2021);
        await synced({ id: A, completed: true, write_id: second });
        expect(await todos()).toMatchObject([{ title: 'mine', completed: true, pending: false }]);
        expect(await changes()).toEqual([]);
    });

    test('the echo of a group with several writes of a row, of which only the last is seen', async () => {
        await query("update todos set title = 'one'");
        await query('update todos set completed = true');
        await mark('sending');
        await synced({ id: A, title: 'one', completed: true, write_id: await lastWrite(A) });
        expect(await changes()).toEqual([]);
        expect(await todos()).toMatchObject([{ pending: false }]);
    });

    test('set back before it was tried: nothing is sent', async () => {
        await query("update todos set title = 'mine', completed = true");
        await query("update todos set title = 'mine too'");
        await query("update todos set title = 'a'");
        expect(await changes()).toMatchObject([{ value: { completed: true } }]);
        expect(await localColumns(A)).toEqual(['completed']);
        await query('update todos set completed = false');
        expect(await changes()).toEqual([]);
        expect(await todos()).toMatchObject([{ title: 'a', completed: false, pending: false }]);
    });

    test.each(['sending', 'accepted'])('set back when it is %s: another write, and the column stays', async (state) => {
        await query("update todos set title = 'mine'");
        const first = await lastWrite(A);
        await mark(state);
        await query("update todos set title = 'a'");
        expect((await changes()).map(({ value }) => value)).toEqual([{ title: 'mine' }, { title: 'a' }]);
        await synced({ id: A, title: 'mine', write_id: first });
        expect(await todos()).toMatchObject([{ title: 'a', pending: true }]);
        await mark('accepted');
        await synced({ id: A, title: 'a', write_id: await lastWrite(A) });
        expect(await todos()).toMatchObject([{ title: 'a', pending: false }]);
    });

    test('an unsent insert: updates change it, a delete forgets it', async () => {
        await query("insert into todos (id, title) values ($1, 'b')", [B]);
        await query("update todos set title = 'b2' where id = $1", [B]);
        expect(await todos()).toMatchObject([{ id: A }, { id: B, title: 'b2', completed: false }]);
        await query('delete from todos where id = $1', [B]);
        expect(await changes()).toEqual([]);
        expect(await todos()).toHaveLength(1);
    });

    test('an insert that was tried is deleted by another write', async () => {
        await query("insert into todos (id, title) values ($1, 'b')", [B]);
        await mark('sending');
        await query('delete from todos where id = $1', [B]);
        expect((await changes()).map(({ operation }) => operation)).toEqual(['insert', 'delete']);
        expect(await todos()).toHaveLength(1);
        // The server netted both to nothing, and there is no echo.
        await mark('accepted', 'true', 9, 90);
        await query('select settle_changes($1, 89)', [[]]);
        expect(await changes()).toHaveLength(2);
        await query('select settle_changes($1, 90)', [[]]);
        expect([await changes(), await query('select * from todos_local')]).toEqual([[], []]);
    });

    test("somebody else's deletion wins, and the own one is over", async () => {
        await query('update todos set completed = true');
        await query('delete from todos_synced');
        expect(await todos()).toEqual([]);
        await synced({ id: A, title: 'a', completed: false, created_at: '2020-01-01 00:00Z' });
        await mark('rejected');
        await query('delete from todos');
        await mark('accepted', "operation = 'delete'");
        await query('delete from todos_synced');
        expect(await query('select * from todos_local')).toEqual([]);
        expect(await changes("state <> 'rejected'")).toEqual([]);
    });

    test('a shape that begins anew is not a deletion: what is unsent stays, what came back goes', async () => {
        await synced({ id: B, title: 'b', completed: false, created_at: '2020-01-02 00:00Z' });
        await query("update todos set title = 'mine' where id = $1", [A]);
        await query('update todos set completed = true where id = $1', [B]);
        await mark('accepted', `todo_id = '${B}'`);
        const write = await lastWrite(B);
        await db.transaction(async (tx: any) => {
            await tx.query("select set_config('local.refilling', 'on', true)");
            await tx.query('delete from todos_synced');
            await tx.query(`insert into todos_synced values ($1, 'theirs', false, '2020-01-01 00:00Z', null),
                ($2, 'b', true, '2020-01-02 00:00Z', $3)`, [A, B, write]);
        });
        expect(await todos()).toMatchObject([
            { id: A, title: 'mine', pending: true }, { id: B, completed: true, pending: false }]);
        // The guard was of that transaction.
        await query('delete from todos_synced where id = $1', [A]);
        expect(await todos()).toMatchObject([{ id: B }]);
    });

    test('an echo that never comes: the stream has passed its transaction', async () => {
        await query('update todos set completed = true');
        await mark('accepted', 'true', 7, 70);
        await synced({ id: A, completed: true, write_id: '00000000-0000-4000-8000-0000000000ff' });
        expect(await todos()).toMatchObject([{ pending: true }]);
        await query('select settle_changes($1, 69)', [[8, 9]]);
        expect(await todos()).toMatchObject([{ pending: true }]);
        await query('select settle_changes($1, 69)', [[6, 7]]);
        expect(await todos()).toMatchObject([{ completed: true, pending: false }]);
        expect(await changes()).toEqual([]);
    });

    test('what is settled leaves a later write of the row in place', async () => {
        await query("update todos set title = 'sent'");
        await mark('accepted');
        await query('update todos set completed = true');
        await query('select settle_changes($1, 100)', [[]]);
        expect(await todos()).toMatchObject([{ title: 'sent', completed: true, pending: true }]);
        expect(await changes()).toHaveLength(1);
    });

    test('a refusal takes along what was done later to the same todos, and nothing else', async () => {
        await synced({ id: B, title: 'b', completed: false, created_at: '2020-01-02 00:00Z' });
        await query("update todos set title = 'before' where id = $1", [A]);
        await query("update todos set title = 'REFUSED' where id = $1", [A]);
        await query('update todos set completed = true where id = $1', [A]);
        await query('update todos set completed = true where id = $1', [B]);
        const [{ id }] = await query("select id from changes where value ->> 'title' = 'REFUSED'");
        await query('select reject_changes($1, $2)', [[id], 'why']);
        expect(await todos()).toMatchObject([
            { title: 'before', completed: false, pending: true }, { completed: true, pending: true }]);
        expect((await changes()).map(({ state, reason }) => [state, reason])).toEqual([
            ['pending', null], ['rejected', 'why'],
            ['rejected', 'It was made after a change that was refused'], ['pending', null]]);
    });

    test('a refused insert goes from view; sent again, mended, it is a new write at the end', async () => {
        await query("insert into todos (id, title) values ($1, 'LOUD')", [B]);
        const refused = await lastWrite(B);
        const [{ id }] = await query('select id from changes');
        await query('select reject_changes($1, $2)', [[id], 'why']);
        expect(await todos()).toHaveLength(1);
        await query('select resend_change($1, $2)', [id, { title: 'quiet' }]);
        await query('select resend_change($1, $2)', [id, { title: 'twice' }]); // there is none any more
        expect(await todos()).toMatchObject([{ id: A }, { id: B, title: 'quiet', completed: false, pending: true }]);
        expect(await changes()).toMatchObject([{ operation: 'insert', state: 'pending', value: { title: 'quiet' } }]);
        expect(await lastWrite(B)).not.toBe(refused);
    });

    test('the rows of a refused deletion are back', async () => {
        await query('delete from todos');
        const [{ id }] = await query('select id from changes');
        await query('select reject_changes($1, $2)', [[id], 'no']);
        expect(await todos()).toMatchObject([{ id: A, title: 'a', pending: false }]);
    });
});
